"""What stands on the screen: each pane, full, empty, slow and broken, as text."""

from __future__ import annotations

import threading
import time

import pytest

from claude_bottle.dashboard.world import Agent
from claude_bottle.errors import BottleError
from claude_bottle.operations.numbers import Numbers
from tests.support.dash import Played, Stage, agent, asked, check, play, shows, text_of


def busy_stage() -> Stage:
    ago = time.time() - 300
    stage = Stage(
        agent("reviewer-ab12x", status="working", branch="main", approvals=2),
        agent(
            "builder-zz9zz", backend="bubblewrap", status="waiting for input", waiting_for="permission prompt"
        ),
        agent("tester-1t1t1", status="degraded", services=("egress", "supervise"), down=("firewall",)),
        agent("writer-00000", services=(), status="starting"),
        proposals=[
            asked("reviewer-ab12x", "0123456789", "docs.example.org", "to read how the parser works", ago),
            asked("reviewer-ab12x", "1123456789", "parser.example.net", "the tests need its grammar", ago),
        ],
    )
    stage.numbers = {"reviewer-ab12x": Numbers(123_456, 12, 3), "builder-zz9zz": Numbers(900, 0, 0)}
    return stage


@pytest.mark.parametrize("size", [(80, 24), (120, 30), (200, 50), (60, 15)])
def test_the_two_panes(size: tuple[int, int]) -> None:
    async def look(app: Played, pilot) -> None:
        await shows(pilot, "+12 -3") if size[0] >= 80 else await shows(pilot, "working")
        check(f"panes-{size[0]}x{size[1]}", app)

    play(busy_stage(), look, size)


def test_the_proposals_with_the_focus() -> None:
    async def look(app: Played, pilot) -> None:
        await pilot.press("tab", "j")
        await shows(pilot, "p-1123456789")
        check("proposals-focused", app)

    play(busy_stage(), look)


def test_nothing_runs() -> None:
    async def look(app: Played, pilot) -> None:
        await shows(pilot, "nothing runs")
        check("empty", app)

    play(Stage(), look)


def test_before_anything_was_seen_nothing_is_said_to_be_there_or_not() -> None:
    stage = Stage()
    stage.stuck = dict.fromkeys(("docker", "bubblewrap", "proposals"), threading.Event())

    async def look(app: Played, pilot) -> None:
        check("looking", app)
        next(iter(stage.stuck.values())).set()

    play(stage, look)


def test_a_broken_backend_is_shown_and_holds_nothing_up() -> None:
    stage = busy_stage()
    stage.faults["docker"] = BottleError("the engine does not answer")

    async def look(app: Played, pilot) -> None:
        await shows(pilot, "the engine does not answer")
        await shows(pilot, "builder-zz9zz")
        check("engine-gone", app)
        del stage.faults["docker"]
        await shows(pilot, "reviewer-ab12x")
        assert "does not answer" not in text_of(app)

    play(stage, look)


def test_a_slow_backend_is_shown_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_bottle.dashboard.looking.SLOW", 0.05)
    stage = busy_stage()
    stage.stuck["docker"] = threading.Event()

    async def look(app: Played, pilot) -> None:
        await shows(pilot, "docker: no answer for")
        stage.running[1] = stage.running[1]._replace(status="idle", waiting_for="")
        await shows(pilot, "idle")
        stage.stuck.pop("docker").set()
        await shows(pilot, "reviewer-ab12x")

    play(stage, look)


@pytest.mark.parametrize(
    "fault", [BottleError("gone"), OSError("gone"), ValueError("gone"), RecursionError("gone")]
)
def test_whatever_a_look_raises_is_said_and_the_next_one_is_taken(fault: Exception) -> None:
    stage = busy_stage()
    stage.faults["proposals"] = fault

    async def look(app: Played, pilot) -> None:
        await shows(pilot, "gone")
        await shows(pilot, "reviewer-ab12x")
        del stage.faults["proposals"]
        await shows(pilot, "docs.example.org")

    play(stage, look, (120, 24))


def test_no_colour_is_needed_to_tell_states_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def look(app: Played, pilot) -> None:
        await shows(pilot, "degraded: firewall down")
        await shows(pilot, "waiting: permission prompt")
        assert app.no_color
        check("panes-80x24", app)

    play(busy_stage(), look)


def test_wide_characters_keep_the_columns() -> None:
    stage = Stage(agent("a-1", name="审查员", branch="修复"), agent("b-2", name="x", branch="main"))

    async def look(app: Played, pilot) -> None:
        await shows(pilot, "修复")
        check("wide", app)

    play(stage, look, (120, 15))


def test_two_hundred_agents_are_a_list_that_scrolls() -> None:
    stage = Stage(*(agent(f"agent-{number:05}") for number in range(200)))

    async def look(app: Played, pilot) -> None:
        await pilot.press("G")
        await shows(pilot, "agent-00199")
        await pilot.press("g")
        await shows(pilot, "agent-00000")

    play(stage, look)


def test_a_terminal_that_is_resized_all_the_time() -> None:
    async def look(app: Played, pilot) -> None:
        for size in [(80, 24), (20, 5), (200, 60), (1, 1), (81, 3), (40, 24), (80, 24)] * 3:
            await pilot.resize_terminal(*size)
        await shows(pilot, "+12 -3")
        check("panes-80x24", app)

    play(busy_stage(), look)


def test_the_state_folder_goes_and_comes_back() -> None:
    stage = busy_stage()

    async def look(app: Played, pilot) -> None:
        agents: list[Agent] = list(stage.running)
        stage.running.clear()
        stage.waiting, waiting = [], stage.waiting
        await shows(pilot, "nothing runs")
        stage.running += agents
        stage.waiting = waiting
        await shows(pilot, "docs.example.org")

    play(stage, look)
