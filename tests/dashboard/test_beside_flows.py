"""Stop, attach, and the pane beside: who takes it, and who keeps it."""

from __future__ import annotations

from claude_bottle.dashboard.acting import Ended, Failed, Said
from claude_bottle.errors import BottleError
from tests.support.dash import (
    YES,
    Played,
    Script,
    Stage,
    agent,
    play,
    shows,
    three,
    until,
)


class Pane:
    """A pane beside, without tmux."""

    def __init__(self, slug: str | None = None, fault: str = "") -> None:
        self.slug, self.fault, self.was = slug, fault, [slug]

    def show(self, slug: str, argv: object, variables: object) -> None:
        if self.fault:
            raise BottleError(self.fault)
        self.slug = slug
        self.was.append(slug)

    def shown(self) -> str | None:
        return self.slug

    def close(self) -> None:
        self.slug = None
        self.was.append(None)


def stopping(stage: Stage, pane: Pane | None, *, down: int, until_shown: str) -> Script:
    script, running = Script(stop=(Said("stopped"), Ended(0))), len(stage.running)
    script.effects["stop"] = lambda: stage.running.pop(down)

    async def act(app: Played, pilot) -> None:
        await pilot.press(*["j"] * down, "x")
        await shows(pilot, YES)
        await pilot.press("y")
        await shows(pilot, "is stopped")
        if pane is not None:
            await until(pilot, lambda: len(pane.was) > 1 or not until_shown)
        if until_shown:
            assert app._tables["agents"].selected == until_shown
        assert len(app._tables["agents"].rows) == running - 1

    play(stage, act, script=script, beside=pane)
    return script


def test_the_agent_that_fills_the_row_takes_the_right_pane() -> None:
    pane = Pane("b-22222")
    script = stopping(three(), pane, down=1, until_shown="c-33333")
    assert script.run == [["stop", "b-22222"]]
    assert pane.was == ["b-22222", "c-33333"]


def test_the_new_last_one_does_where_the_last_was_stopped() -> None:
    pane = Pane("c-33333")
    stopping(three(), pane, down=2, until_shown="b-22222")
    assert pane.was == ["c-33333", "b-22222"]


def test_the_pane_closes_when_none_is_left() -> None:
    pane = Pane("a-11111")
    stopping(Stage(agent("a-11111")), pane, down=0, until_shown="")
    assert pane.was == ["a-11111", None]


def test_the_pane_of_another_agent_stays() -> None:
    pane = Pane("a-11111")
    stopping(three(), pane, down=1, until_shown="")
    assert pane.was == ["a-11111"]


def test_outside_tmux_only_the_selection_slides() -> None:
    stopping(three(), None, down=1, until_shown="c-33333")


def test_a_stop_that_fails_leaves_the_row() -> None:
    script = Script(stop=(Failed("the engine is gone", "start it"), Ended(1)))

    async def act(app: Played, pilot) -> None:
        await pilot.press("x")
        await shows(pilot, YES)
        await pilot.press("y")
        await shows(pilot, "the engine is gone: start it")
        await shows(pilot, "a-11111")

    play(three(), act, script=script)


def test_without_a_yes_nothing_is_stopped() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("x")
        await shows(pilot, YES)
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert script.run == []

    play(three(), act, script=script)


def test_attach_in_tmux_marks_the_row_and_a_tmux_that_fails_hands_over() -> None:
    pane = Pane()
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("enter")
        await shows(pilot, "* [docker] a-11111")
        pane.fault = "the server is gone"
        await pilot.press("j", "enter")
        await shows(pilot, "the server is gone")
        assert [argv[-2:] for argv in script.handed] == [["attach", "b-22222"]]

    play(three(), act, script=script, beside=pane)


def test_attach_outside_tmux_hands_the_terminal_over() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: bool(script.handed))
        assert script.handed[0][-2:] == ["attach", "a-11111"]

    play(three(), act, script=script)
