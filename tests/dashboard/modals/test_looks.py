"""How the modals look, and that hostile text in them is only text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual import events

from claude_bottle.dashboard.modals.approve import Approve
from claude_bottle.dashboard.modals.ask import Ask
from claude_bottle.dashboard.modals.filtering import Item
from claude_bottle.dashboard.modals.help import Help
from claude_bottle.dashboard.modals.picker import Picker
from claude_bottle.dashboard.modals.preflight import Preflight
from claude_bottle.dashboard.modals.reason import Reason
from claude_bottle.dashboard.modals.searching import diff_lines
from claude_bottle.dashboard.modals.sheet import Sheet
from claude_bottle.dashboard.modals.viewer import Viewer
from claude_bottle.dashboard.paint import cell_len, plain
from tests.dashboard.modals.stage import (
    AGENTS,
    BRIEFING,
    DIFF,
    GOLDEN,
    HOSTILE,
    KEYS,
    LARGE,
    NOTES,
    PLAN,
    SMALL,
    Clock,
    Seat,
    golden,
    played,
    screen_of,
)

Make = Callable[[Clock], Sheet[Any]]


def diff() -> Viewer:
    viewer = Viewer("reviewer-x1y2z: what it has changed")
    viewer.show(diff_lines(DIFF))
    return viewer


SCREENS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "picker": (lambda clock: Picker("New agent", AGENTS, "none"), ()),
    "picker-filtered": (lambda clock: Picker("New agent", AGENTS, "none"), ("r", "e", "down")),
    "picker-refused": (lambda clock: Picker("New agent", AGENTS, "none"), ("b", "enter")),
    "picker-empty": (lambda clock: Picker("New agent", (), "no agents yet: claude-bottle init"), ()),
    "preflight": (lambda clock: Preflight("Start reviewer", PLAN, NOTES, "Start it?", clock), ()),
    "ask": (lambda clock: Ask("What is API_KEY? It enters the bottle.", clock), ("x",)),
    "reason": (lambda clock: Reason("Reject p-7k2", "why; the agent is told", 500), tuple("not yet")),
    "approve": (lambda clock: Approve(BRIEFING, False, clock), ()),
    "approve-time": (lambda clock: Approve(BRIEFING, False, clock), ("f", "2", "w", "enter")),
    "approve-capability": (lambda clock: Approve(BRIEFING, True, clock), ("G",)),
    "viewer": (lambda clock: diff(), ()),
    "viewer-loading": (lambda clock: Viewer("reviewer-x1y2z: decisions"), ()),
    "help": (lambda clock: Help(KEYS), ()),
}
SIZES = {"80x24": SMALL, "120x40": LARGE}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_the_golden_one(name: str, size: str) -> None:
    make, keys = SCREENS[name]
    clock = Clock()
    golden(f"{name}-{size}", screen_of(make(clock), *keys, size=SIZES[size], clock=clock))


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {
        f"{name}-{size}" for name in SCREENS for size in SIZES
    }


def viewer_of(text: str) -> Viewer:
    viewer = Viewer(text)
    viewer.show([plain(text), *diff_lines(f"+{text}")])
    viewer.fail(text)
    return viewer


FIELDS: dict[str, Callable[[str, Clock], Sheet[Any]]] = {
    "picker": lambda text, clock: Picker(text, [Item("a", text, text), Item("b", "b", text, text)], text),
    "picker-empty": lambda text, clock: Picker("x", (), text),
    "preflight": lambda text, clock: Preflight(text, [(text, text), ("a", text)], [text], text, clock),
    "ask": lambda text, clock: Ask(text, clock),
    "reason": lambda text, clock: Reason(text, text, 100),
    "approve": lambda text, clock: Approve(
        [("it says", f"| {text}"), (text, text), ("look", f"!! {text}"), ("refused", text)], False, clock
    ),
    "viewer": lambda text, clock: viewer_of(text),
    "help": lambda text, clock: Help([(text, [(text, text), ("a", text)])]),
}


def drawn_harmlessly(seat: Seat) -> None:
    for row in seat.segments():
        assert sum(cell_len(segment.text) for segment in row) == SMALL[0]
        for segment in row:
            assert segment.text.isprintable(), segment
            assert segment.control is None
            assert "@click" not in (segment.style.meta if segment.style else {})
            assert not (segment.style and segment.style.link)


async def clicked_on_links(seat: Seat) -> None:
    for y, row in enumerate(seat.rows()):
        if "[@click" in row:
            await seat.pilot.click(offset=(row.index("[@click") + 17, y))
    await seat.pilot.pause()


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_text_is_only_text(field: str) -> None:
    clock = Clock()

    async def play(seat: Seat) -> None:
        for kind, text in HOSTILE.items():
            sheet = FIELDS[field](text, clock)
            seat.app.push_screen(sheet)
            await seat.until(lambda sheet=sheet: sheet.is_mounted and seat.app.screen is sheet)  # type: ignore[misc]
            await seat.pilot.pause()
            drawn_harmlessly(seat)
            if kind in ("markup", "click"):
                assert text in seat.text
            if field != "picker":  # there a click has a meaning of its own
                await clicked_on_links(seat)
            assert seat.app.is_running
            assert seat.app.screen is sheet
            seat.app.pop_screen()

    assert played(Help(KEYS), play) == []


def test_pasted_hostile_text_is_only_text() -> None:
    async def play(seat: Seat) -> None:
        for text in HOSTILE.values():
            seat.sheet.post_message(events.Paste(text))
            await seat.type("home")
            drawn_harmlessly(seat)
            await seat.type("ctrl+k", "ctrl+u")

    for sheet in (Reason("x", "x", 300), Picker("x", AGENTS, "none")):
        played(sheet, play)


@pytest.mark.parametrize("name", SCREENS)
def test_without_colour_nothing_is_lost(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, keys = SCREENS[name]
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()

    async def play(seat: Seat) -> None:
        if keys:
            await seat.type(*keys)
        for row in seat.segments():
            for segment in row:
                style = segment.style
                for colour in (style.color, style.bgcolor) if style else ():
                    if colour is not None and colour.triplet is not None:
                        assert len(set(colour.triplet)) == 1, segment
        assert seat.text == (GOLDEN / f"{name}-80x24.txt").read_text(encoding="utf-8")

    played(make(clock), play, clock=clock)
