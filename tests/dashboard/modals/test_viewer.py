"""Every key of the viewer, and how much of a long text it reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rich.text import Text
from textual import events
from textual.app import ComposeResult

from claude_bottle.dashboard.modals.viewer import Viewer
from claude_bottle.dashboard.paint import plain
from tests.dashboard.modals.stage import Seat, answers_to, filled, played, screen_of


def test_it_is_loading_until_it_is_shown() -> None:
    viewer = Viewer("reviewer-x1y2z: decisions")

    async def play(seat: Seat) -> None:
        assert "loading…" in seat.text
        viewer.show([])
        await seat.pilot.pause()
        assert "loading" not in seat.text
        assert "there is nothing to show" in seat.text
        viewer.append([plain("a line"), Text("two\nmore")])
        await seat.pilot.pause()
        assert all(word in seat.text for word in ("a line", "two", "more", "1–3 of 3"))
        assert "nothing to show" not in seat.text
        viewer.fail("the bottle is gone")
        await seat.pilot.pause()
        assert "failed: the bottle is gone" in seat.text
        assert "a line" in seat.text

    played(viewer, play)


class Early(Viewer):
    """Its lines come after it was laid out, and before it has been mounted."""

    def compose(self) -> ComposeResult:
        yield from super().compose()
        self.show([plain("there already")])


def test_lines_that_come_while_it_opens_are_shown() -> None:
    shown = screen_of(Early("x"))
    assert "there already" in shown
    assert "loading" not in shown


def test_a_failure_in_place_of_lines() -> None:
    viewer = Viewer("x")
    viewer.fail("no such log")
    shown = screen_of(viewer)
    assert "failed: no such log" in shown
    assert "loading" not in shown


@pytest.mark.parametrize(
    ("keys", "first"),
    [
        (["j"], 2),
        (["down", "down", "k"], 2),
        (["G"], 283),
        (["end", "home"], 1),
        (["G", "g"], 1),
        (["pagedown"], 18),
        (["space", "pageup"], 1),
        (["up"], 1),
    ],
)
def test_moving_in_the_viewer(keys: list[str], first: int) -> None:
    assert f"{first}–{first + 17} of 300" in screen_of(filled(), *keys)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["slash", *"LINE", "space", *"29", "enter"], "in line 30"),
        (["slash", *"29", "enter", "n"], "in line 130"),
        (["slash", *"29", "enter", "n", "N"], "in line 30"),
        (["slash", *"29", "enter", "N"], "in line 300"),
        (["slash", *"zzz", "enter"], "it is nowhere here"),
        (["slash", *"of", "backspace", "backspace", *"299", "enter"], "in line 300"),
        (["n"], "/ searches"),
        (["slash", *"xy"], "/xy"),
    ],
)
def test_searching(keys: list[str], said: str) -> None:
    assert said in screen_of(filled(), *keys)


@pytest.mark.parametrize("keys", [["q"], ["escape"], ["slash", "q", "escape", "q"]])
def test_leaving_the_viewer(keys: list[str]) -> None:
    assert answers_to(filled(), *keys) == [None]


def test_a_long_line_is_cut_visibly_and_goes_sideways() -> None:
    viewer = Viewer("x")
    viewer.show([plain("0123456789" * 20, limit=1000), plain("short")])

    async def play(seat: Seat) -> None:
        assert "01234…" in seat.text
        await seat.type("l")
        assert "…6789" in seat.text
        assert "short" not in seat.text
        await seat.type("h")
        assert "…6789" not in seat.text
        await seat.type(*["right"] * 30)
        assert "…9" in seat.text

    played(viewer, play)


def test_who_is_at_the_end_follows_it_and_who_is_not_stays() -> None:
    viewer = filled()

    async def play(seat: Seat) -> None:
        viewer.append([plain("new")])
        await seat.pilot.pause()
        assert "1–18 of 301" in seat.text
        await seat.type("G")
        viewer.append(plain(f"more {at}") for at in range(10))
        await seat.until(lambda: "more 9" in seat.text)
        assert "294–311 of 311" in seat.text

    played(viewer, play)


class Lines(list[Text]):
    """A list that counts what is read of it."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        self.reads += 1
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Text]:
        raise AssertionError("all lines were read")


def test_of_a_hundred_thousand_lines_only_those_on_the_screen_are_read() -> None:
    viewer = filled(100_000)

    async def play(seat: Seat) -> None:
        lines = viewer.page.lines = Lines(viewer.page.lines)
        await seat.type("G", "k", "pageup", "g", "G")
        assert "99983–100000 of 100000" in seat.text
        assert lines.reads < 1000

    played(viewer, play)


def test_the_wheel_scrolls() -> None:
    async def play(seat: Seat) -> None:
        page = seat.app.screen.query_one("Page")
        page.post_message(events.MouseScrollDown(page, 5, 5, 0, 0, 0, False, False, False))
        await seat.until(lambda: " 1–18 of" not in seat.text)

    played(filled(), play)
