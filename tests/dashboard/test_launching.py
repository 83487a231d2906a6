"""From `n` or `R` to the row of what came up, or did not. The commands themselves are a script."""

from __future__ import annotations

import threading

import pytest

from claude_bottle.backend.base import Readiness
from claude_bottle.dashboard.acting import Ask, Confirm, Ended, Failed, Paired, Put, Stepped
from claude_bottle.dashboard.source import Kept
from claude_bottle.errors import BottleError
from tests.support.dash import (
    YES,
    Played,
    Script,
    Stage,
    agent,
    opened,
    play,
    shows,
    text_of,
    three,
    until,
)

PLAN = (Paired("agent", "reviewer in bottle dev"), Paired("may reach", "nothing"))
UP = (
    *PLAN,
    Confirm("Start it?"),
    Stepped("prepare", 3.0),
    Stepped("containers", 400.0),
    Put("reviewer-zzzzz"),
    Ended(0),
)


async def planned(pilot) -> None:
    """The first agent was picked, and its plan is there; the one backend that works was not asked for."""
    await pilot.press("n")
    await opened(pilot)
    await pilot.press("enter")
    await shows(pilot, YES)


def test_a_new_agent_is_picked_planned_agreed_to_and_comes_up_in_its_row() -> None:
    stage, script = three(), Script(start=UP)
    script.held["start"] = threading.Event()

    async def act(app: Played, pilot) -> None:
        await pilot.press("n")
        await opened(pilot)
        await shows(pilot, "reviewer (0 running)")
        await pilot.press("enter")
        await shows(pilot, "Which backend?")
        await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: bool(script.run))
        assert script.run == [["start", "reviewer", "--backend", "docker", "--detach"]]
        script.held["start"].set()
        await shows(pilot, "Start it?")
        await shows(pilot, YES)
        assert not script.told  # nothing was agreed to so far
        script.held["start"].clear()
        await pilot.press("y")
        await shows(pilot, "(starting)")
        await pilot.press("tab")  # the screen lives on all the while
        script.held["start"].set()
        await shows(pilot, "reviewer-zzzzz is up")
        stage.running.append(agent("reviewer-zzzzz"))
        await until(pilot, lambda: not app.world.launches)
        assert app._tables["agents"].selected == "reviewer-zzzzz"
        assert script.told == [True]

    play(stage, act, script=script)


def test_one_backend_that_works_is_taken_without_asking() -> None:
    stage, script = three(), Script(start=UP)
    stage.backends_here = [("docker", Readiness(False, "no engine")), ("bubblewrap", Readiness(True))]

    async def act(app: Played, pilot) -> None:
        await pilot.press("n")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, "Start it?")
        assert script.run[0][2:4] == ["--backend", "bubblewrap"]

    play(stage, act, script=script)


@pytest.mark.parametrize("key", ["n", "escape", "enter"])
def test_without_a_yes_nothing_starts(key: str) -> None:
    stage, script = three(), Script(start=UP)

    async def act(app: Played, pilot) -> None:
        await pilot.press("n")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, "Which backend?")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, YES)
        await pilot.press(key)
        await until(pilot, lambda: bool(script.told))
        assert script.told == [False]
        assert app.world.launches == ()

    play(stage, act, script=script)


def test_a_launch_that_fails_says_why_and_its_row_goes_when_it_was_seen() -> None:
    failing = (*PLAN, Confirm("Start it?"), Stepped("prepare", 3.0), Failed("no room", "make some"), Ended(1))
    stage, script = Stage(), Script(start=failing)
    stage.backends_here = [("docker", Readiness(True))]

    async def act(app: Played, pilot) -> None:
        await planned(pilot)
        await pilot.press("y")
        await shows(pilot, "failed: no room: make some")
        await pilot.press("l")
        await shows(pilot, "prepare 3 ms")
        await pilot.press("q")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        await pilot.press("x")
        await shows(pilot, "nothing runs")

    play(stage, act, script=script)


def test_a_value_that_a_launch_asks_for_is_not_shown() -> None:
    asking = (*PLAN, Confirm("Start it?"), Ask("TOKEN?"), Put("reviewer-zzzzz"), Ended(0))
    stage, script = Stage(), Script(start=asking)
    stage.backends_here = [("docker", Readiness(True))]

    async def act(app: Played, pilot) -> None:
        await planned(pilot)
        await pilot.press("y")
        await shows(pilot, "TOKEN?")
        await opened(pilot)
        await pilot.pause(0.4)
        await pilot.press(*"hush")
        await pilot.pause(0.1)
        assert "hush" not in text_of(app)
        await pilot.press("enter")
        await until(pilot, lambda: script.told == [True, "hush"])

    play(stage, act, script=script)


def test_a_launch_is_given_up_by_x() -> None:
    stage, script = Stage(), Script(start=UP)
    stage.backends_here = [("docker", Readiness(True))]

    async def act(app: Played, pilot) -> None:
        await planned(pilot)
        script.held["start"] = threading.Event()
        await pilot.press("y")
        await shows(pilot, "(starting)")
        await pilot.press("x")
        await until(pilot, lambda: script.told == [True, "end"])
        await shows(pilot, "failed: ended by signal 15")
        script.held["start"].set()

    play(stage, act, script=script)


def test_a_manifest_that_cannot_be_read_is_said() -> None:
    stage = three()
    stage.faults["declared"] = BottleError("agents/x.md:3:1: unknown key", "did you mean prompt?")

    async def act(app: Played, pilot) -> None:
        await pilot.press("n")
        await shows(pilot, "agents/x.md:3:1: unknown key")

    play(stage, act)


def test_a_preserved_one_is_resumed() -> None:
    stage, script = Stage(), Script(resume=UP)
    stage.kept = [Kept("old-00000", "old", "it was stopped")]

    async def act(app: Played, pilot) -> None:
        await pilot.press("R")
        await opened(pilot)
        await shows(pilot, "it was stopped")
        await pilot.press("enter")
        await shows(pilot, YES)
        await pilot.press("y")
        await shows(pilot, "reviewer-zzzzz is up")
        assert script.run == [["resume", "old-00000", "--detach"]]

    play(stage, act, script=script)


def test_the_steps_of_a_launch_are_shown_as_they_come() -> None:
    stage, script = Stage(), Script(start=(*UP[:-2], Failed("no room", ""), Ended(1)))
    stage.backends_here = [("docker", Readiness(True))]

    async def act(app: Played, pilot) -> None:
        await planned(pilot)
        script.held["start"] = threading.Event()
        await pilot.press("y")
        await shows(pilot, "(starting)")
        await pilot.press("l")
        await shows(pilot, "Start of reviewer")
        script.held["start"].set()
        await shows(pilot, "containers 400 ms")
        await shows(pilot, "failed: no room")
        await pilot.pause(0.4)
        await pilot.press("q")
        await until(pilot, lambda: len(app.screen_stack) == 1)

    play(stage, act, script=script)
