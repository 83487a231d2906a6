"""Every key of every modal, in a terminal of Textual's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from textual import events

from claude_bottle.dashboard.modals.approve import Approve
from claude_bottle.dashboard.modals.ask import Ask
from claude_bottle.dashboard.modals.bounds import Bounds
from claude_bottle.dashboard.modals.filtering import Item
from claude_bottle.dashboard.modals.help import Help
from claude_bottle.dashboard.modals.painted import Hints
from claude_bottle.dashboard.modals.picker import Picker
from claude_bottle.dashboard.modals.preflight import Preflight
from claude_bottle.dashboard.modals.reason import Reason
from claude_bottle.dashboard.modals.sheet import Sheet
from tests.dashboard.modals.stage import (
    AGENTS,
    BRIEFING,
    KEYS,
    NOTES,
    PLAN,
    Clock,
    Seat,
    Stage,
    answers_to,
    filled,
    played,
    screen_of,
    seated,
)


def picker(items: tuple[Item, ...] = AGENTS) -> Picker:
    return Picker("New agent", items, "the manifest has no agents: claude-bottle init")


def preflight(clock: Clock) -> Preflight:
    return Preflight("Start reviewer", PLAN, NOTES, "Start it?", clock)


def approve(clock: Clock, capability: bool = False) -> Approve:
    return Approve(BRIEFING, capability, clock)


# --- the picker


@pytest.mark.parametrize(
    ("keys", "answers"),
    [
        (["enter"], ["reviewer"]),
        (["down", "enter"], ["writer"]),
        (["ctrl+n", "ctrl+p", "enter"], ["reviewer"]),
        (["end", "enter"], ["Researcher"]),
        (["end", "home", "enter"], ["reviewer"]),
        (["pagedown", "enter"], ["Researcher"]),
        (["pagedown", "pageup", "enter"], ["reviewer"]),
        (["up", "enter"], ["reviewer"]),
        (["E", "s", "e", "enter"], ["Researcher"]),
        (["w", "r", "backspace", "backspace", "enter"], ["writer"]),
        (["escape"], [None]),
        (["w", "escape"], []),
        (["w", "escape", "escape"], [None]),
        (["z", "z", "enter"], []),
        (["q", "y", "j", "n"], []),
    ],
)
def test_picking(keys: list[str], answers: list[str | None]) -> None:
    assert answers_to(picker(), *keys) == answers


def test_an_item_with_a_refusal_says_why_and_is_not_taken() -> None:
    async def play(seat: Seat) -> None:
        await seat.type("b", "r", "o", "enter")
        assert "broken: its bottle 'strict' is not in the manifest" in seat.text
        assert seat.answers == []
        await seat.type("escape")
        assert "broken: its" not in seat.text

    played(picker(), play)


def test_what_is_typed_is_shown_and_what_is_left() -> None:
    shown = screen_of(picker(), "r", "e", "s")
    assert "filter: res" in shown
    assert "Researcher" in shown
    assert "writer" not in shown
    assert "nothing has this in its name" in screen_of(picker(), "z")


def test_no_items_at_all_has_its_own_words() -> None:
    assert "the manifest has no agents: claude-bottle init" in screen_of(picker(()))
    assert answers_to(picker(()), "enter", "down", "end", "escape") == [None]


def test_a_click_takes_the_item_that_is_there() -> None:
    async def play(seat: Seat) -> None:
        await seat.pilot.click("Rows", offset=(4, 1))
        await seat.pilot.pause()

    assert played(picker(), play) == ["writer"]


def test_a_click_on_a_refused_item_only_says_why() -> None:
    async def play(seat: Seat) -> None:
        await seat.pilot.click("Rows", offset=(4, 2))
        await seat.pilot.pause()
        assert "broken: its bottle" in seat.text

    assert played(picker(), play) == []


def test_a_paste_filters_too() -> None:
    async def play(seat: Seat) -> None:
        seat.sheet.post_message(events.Paste("writ\nsecond line"))
        await seat.type("enter")

    assert played(picker(), play) == ["writer"]


class Counted(tuple[Item, ...]):
    """A tuple that counts what is read of it."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        type(self).reads += 1
        return super().__getitem__(at)


def test_a_thousand_items_are_not_all_drawn() -> None:
    many = tuple(Item(f"k{at}", f"agent-{at}") for at in range(1000))

    async def play(seat: Seat) -> None:
        assert isinstance(seat.sheet, Picker)
        rows = seat.sheet.rows
        rows.pick(rows.picked._replace(shown=Counted(many)))
        await seat.pilot.pause()
        Counted.reads = 0
        await seat.type("end")
        assert 0 < Counted.reads < 300
        assert "> agent-999" in seat.text
        await seat.type("enter")

    assert played(picker(many), play) == ["k999"]


# --- the preflight


@pytest.mark.parametrize(
    ("key", "answer"),
    [("y", True), ("Y", True), ("n", False), ("N", False), ("enter", False), ("escape", False)],
)
def test_only_a_yes_starts(key: str, answer: bool) -> None:
    clock = Clock()
    assert answers_to(preflight(clock), key, clock=clock) == [answer]


@pytest.mark.parametrize("key", ["space", "q", "j", "k", "pagedown", "pageup", "g", "G", "tab", "a", "f5"])
def test_no_other_key_answers(key: str) -> None:
    clock = Clock()
    assert answers_to(preflight(clock), key, clock=clock) == []


@pytest.mark.parametrize("keys", [["j"] * 300, ["G"], ["pagedown"] * 40, ["end"], ["down"] * 300])
def test_a_long_plan_scrolls_to_its_end_and_the_question_stays(keys: list[str]) -> None:
    clock = Clock()
    lines = [(f"row {at}", "text") for at in range(200)]

    async def play(seat: Seat) -> None:
        assert "more lines below" in seat.text
        assert "row 199" not in seat.text
        await seat.type(*keys)
        assert "row 199" in seat.text
        assert "more lines below" not in seat.text
        assert "Start it? [y/N]" in seat.text
        await seat.type("g")
        assert "row 0 " in seat.text

    played(Preflight("Start it", lines, (), "Start it?", clock), play, clock=clock)


def test_a_click_on_a_key_is_the_key() -> None:
    clock = Clock()

    async def play(seat: Seat) -> None:
        await seat.pilot.click(Hints, offset=(10, 0))
        await seat.pilot.pause()

    assert played(preflight(clock), play, clock=clock) == [False]


def asking(clock: Clock) -> list[tuple[Sheet[Any], str]]:
    return [
        (preflight(clock), "y"),
        (approve(clock), "y"),
        (approve(clock, True), "y"),
        (Ask("Key?", clock), "enter"),
    ]


@pytest.mark.parametrize("which", range(4))
def test_a_key_that_comes_too_early_answers_nothing(which: int) -> None:
    clock = Clock()
    sheet, yes = asking(clock)[which]

    async def play(seat: Seat) -> None:
        await seat.type(yes, "n", "escape", "enter")
        assert seat.answers == []
        assert not sheet.hints.awake
        clock.now += 0.29
        await seat.type(yes, "escape")
        assert seat.answers == []
        clock.now += 1000
        await seat.type(yes)
        assert len(seat.answers) == 1

    played(sheet, play)


def test_a_key_that_waited_for_a_slow_screen_answers_nothing() -> None:
    """It was pressed before the question could be seen, though it is looked at only now."""
    clock = Clock()

    async def play(seat: Seat) -> None:
        clock.now += 100
        key = events.Key("y", "y")
        key.time = time.monotonic() - 100
        seat.sheet.post_message(key)
        await seat.pilot.pause()
        assert seat.answers == []
        await seat.type("n")

    assert played(preflight(clock), play) == [False]


def test_the_keys_are_shown_only_once_they_count() -> None:
    clock = Clock()

    async def play(seat: Seat) -> None:
        assert "y yes" not in seat.text
        assert "Start it? [y/N]" in seat.text
        clock.now += 100
        await seat.until(lambda: "y yes" in seat.text)

    played(preflight(clock), play)


def test_a_question_that_comes_back_from_under_another_waits_again() -> None:
    clock = Clock()

    async def run() -> list[Any]:
        async with seated(preflight(clock), clock=clock) as seat:
            above = preflight(clock)
            seat.app.push_screen(above, seat.app.answers.append)
            await seat.until(lambda: above._seen is not None)
            clock.now += 1000
            await seat.type("n", "y")
            await seat.until(lambda: seat.sheet._seen is not None)
            await seat.type("y")
            return seat.answers

    assert asyncio.run(run()) == [False]


# --- ask and reason


def test_what_is_typed_to_a_question_is_not_on_the_screen() -> None:
    clock = Clock()

    async def play(seat: Seat) -> None:
        await seat.type(*"s3cr", "left", "backspace", "e")
        assert "s3" not in seat.text
        assert "something is typed; it is not shown" in seat.text
        assert "•" not in seat.text
        await seat.type("enter")

    assert played(Ask("Value of API_KEY?", clock), play, clock=clock) == ["s3er"]


def test_a_secret_can_be_pasted_and_is_forgotten_when_it_is_given() -> None:
    clock = Clock()
    sheet = Ask("Value of API_KEY?", clock)

    async def play(seat: Seat) -> None:
        seat.sheet.post_message(events.Paste("sk-pasted\n"))
        await seat.type("enter")

    assert played(sheet, play, clock=clock) == ["sk-pasted"]
    assert sheet._typed.text == ""


@pytest.mark.parametrize(
    ("keys", "answer"), [(["enter"], ""), (["a", "escape"], None), (["a", "ctrl+u", "b", "enter"], "b")]
)
def test_asking(keys: list[str], answer: str | None) -> None:
    clock = Clock()
    assert answers_to(Ask("Value?", clock), *keys, clock=clock) == [answer]


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["enter"], ""),
        (["escape"], None),
        ([*"no", "space", *"way", "enter"], "no way"),
        ([*"abcdefghijklmn", "enter"], "abcdefghij"),
        ([*"ac", "left", "b", "end", "d", "home", "q", "enter"], "qabcd"),
    ],
)
def test_a_reason(keys: list[str], answer: str | None) -> None:
    assert answers_to(Reason("Reject p-1", "why; the agent is told", 10), *keys) == [answer]


def test_a_reason_shows_what_is_written_and_what_is_left() -> None:
    shown = screen_of(Reason("Reject p-1", "why", 100), *("word" * 20))
    assert "80 of 100 characters" in shown
    assert shown.count("word") >= 18


# --- approve


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        (["y"], ("--session",)),
        (["o", "y"], ("--once",)),
        (["o", "s", "y"], ("--session",)),
        (["m", "y"], ("--for", "30m")),
        (["A", "y"], ("--always",)),
        (["f", *"2h", "enter", "y"], ("--for", "2h")),
        (["u", *"12", "enter", "y"], ("--uses", "12")),
        (["f", *"2h", "enter", "o", "y"], ("--once",)),
        (["o", "f", *"2h", "escape", "y"], ("--once",)),
        (["f", *"2w", "enter", "backspace", "d", "enter", "y"], ("--for", "2d")),
    ],
)
def test_approving(keys: list[str], options: tuple[str, ...]) -> None:
    clock = Clock()
    assert answers_to(approve(clock), *keys, clock=clock) == [Bounds(options)]


@pytest.mark.parametrize(
    "keys",
    [
        ["enter"],
        ["Y"],
        ["a"],
        ["j", "k", "G", "g", "pagedown", "pageup", "space"],
        ["f", "y", "enter"],  # typed into the field, and not a duration
        ["f", "enter", "y"],
        ["u", "0", "enter", "y"],
        ["f", *"2h", "y"],
    ],
)
def test_nothing_else_approves(keys: list[str]) -> None:
    clock = Clock()
    assert answers_to(approve(clock), *keys, clock=clock) == []


@pytest.mark.parametrize("keys", [["escape"], ["f", "escape", "escape"], ["f", "2", "escape", "escape"]])
def test_esc_leaves_the_choice_and_then_the_proposal(keys: list[str]) -> None:
    clock = Clock()
    assert answers_to(approve(clock), *keys, clock=clock) == [None]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "Allow it, until the bottle ends? [y/N]"),
        (["o"], "Allow it, once? [y/N]"),
        (["f", *"90s", "enter"], "Allow it, for 90s? [y/N]"),
        (["f", *"2w", "enter"], "a duration is a whole number with s, m, h or d, such as 30m"),
        (["u", "0", "enter"], "a whole number from 1 to 1000000"),
        (["u", "7", "enter"], "(•) u 7 uses"),
    ],
)
def test_the_question_says_what_y_would_allow(keys: list[str], said: str) -> None:
    clock = Clock()
    assert said in screen_of(approve(clock), *keys, clock=clock)


def test_a_capability_has_no_bounds() -> None:
    clock = Clock()
    shown = screen_of(approve(clock, True), "o", "f", "u", "A", clock=clock)
    assert "Build it into the bottle?" in shown
    assert "until the bottle ends?" not in shown
    clock = Clock()
    assert answers_to(approve(clock, True), "o", "y", clock=clock) == [Bounds(())]


@pytest.mark.parametrize("keys", [[], ["G"]])
def test_what_is_grave_stays_visible_in_a_long_list(keys: list[str]) -> None:
    clock = Clock()
    lines = [("it says", "| word"), *(("", f"| {at}") for at in range(100)), ("look", "!! the grave one")]
    lines += [("tried", "x"), *(("", f"{at}") for at in range(100))]

    async def play(seat: Seat) -> None:
        if keys:
            await seat.type(*keys)
        assert "!! the grave one" in seat.text
        assert "Allow it, until the bottle ends? [y/N]" in seat.text

    played(Approve(lines, False, clock), play, clock=clock)


def test_of_many_grave_ones_the_number_is_told() -> None:
    clock = Clock()
    lines = [("look", "!! first"), *(("", f"!! {at}") for at in range(40))]
    assert "!! and 39 more above" in screen_of(Approve(lines, False, clock), clock=clock)


# --- help, and all of them


@pytest.mark.parametrize("key", ["q", "escape", "question_mark", "enter"])
def test_leaving_help(key: str) -> None:
    assert answers_to(Help(KEYS), key) == [None]


@pytest.mark.parametrize(
    "make", [picker, lambda: preflight(Clock()), lambda: approve(Clock()), filled, lambda: Help(KEYS)]
)
def test_a_terminal_that_changes_its_size_all_the_time(make: Callable[[], Sheet[Any]]) -> None:
    async def play(seat: Seat) -> None:
        for size in [(120, 40), (20, 5), (1, 1), (80, 24), (300, 100), (80, 24)]:
            await seat.pilot.resize_terminal(*size)
            await seat.until(lambda size=size: {len(row) for row in seat.rows()} <= {size[0]})  # type: ignore[misc]
        before = seat.text
        await seat.pilot.resize_terminal(120, 40)
        await seat.pilot.resize_terminal(80, 24)
        await seat.pilot.pause()
        assert seat.text == before

    played(make(), play)


def test_no_key_reaches_the_app_below() -> None:
    assert answers_to(filled(), "j", "tab", "colon", "f5", "ctrl+x", "y") == []


def test_a_second_answer_in_the_same_breath_is_none() -> None:
    clock = Clock()

    async def run() -> list[Any]:
        app = Stage()
        async with app.run_test() as pilot:
            sheet = preflight(clock)
            app.push_screen(sheet, app.answers.append)
            while sheet._seen is None:
                await pilot.pause()
            clock.now += 1000
            for key in ("y", "n", "y"):
                sheet.post_message(events.Key(key, key))
            await pilot.pause()
            return app.answers

    assert asyncio.run(run()) == [True]
