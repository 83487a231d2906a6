"""What each key does, to the end. The commands themselves are a script; what they do is proved elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from claude_bottle.backend.base import Readiness
from claude_bottle.dashboard.acting import Ask, Confirm, Ended, Failed, Paired, Put, Said, Stepped
from claude_bottle.dashboard.source import Kept
from claude_bottle.errors import BottleError
from claude_bottle.policy.proposals import CAPABILITY, Asked
from tests.support.dash import Played, Script, Stage, agent, asked, check, play, shows, text_of, until

PLAN = (Paired("agent", "reviewer in bottle dev"), Paired("may reach", "nothing"))
UP = (
    *PLAN,
    Confirm("Start it?"),
    Stepped("prepare", 3.0),
    Stepped("containers", 400.0),
    Put("reviewer-zzzzz"),
    Ended(0),
)
YES = "y yes"  # the hints of a modal are there once its keys count


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


def two() -> Stage:
    return Stage(agent("a-11111"), agent("b-22222"), agent("c-33333"))


async def opened(pilot) -> None:
    """What stands above is ready for keys."""
    await until(pilot, lambda: "Esc" in text_of(pilot.app) and len(pilot.app.screen_stack) > 1)


# New


def test_a_new_agent_is_picked_planned_agreed_to_and_comes_up_in_its_row() -> None:
    stage, script = two(), Script(start=UP)
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
    stage, script = two(), Script(start=UP)
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
    stage, script = two(), Script(start=UP)

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
        await pilot.press("n")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, YES)
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
        await pilot.press("n")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, YES)
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
        await pilot.press("n")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, YES)
        script.held["start"] = threading.Event()
        await pilot.press("y")
        await shows(pilot, "(starting)")
        await pilot.press("x")
        await until(pilot, lambda: script.told == [True, "end"])
        await shows(pilot, "failed: ended by signal 15")
        script.held["start"].set()

    play(stage, act, script=script)


def test_a_manifest_that_cannot_be_read_is_said() -> None:
    stage = two()
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
        await pilot.press("n")
        await opened(pilot)
        await pilot.press("enter")
        await shows(pilot, YES)
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


# Stop, and the pane beside


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
    script = stopping(two(), pane, down=1, until_shown="c-33333")
    assert script.run == [["stop", "b-22222"]]
    assert pane.was == ["b-22222", "c-33333"]


def test_the_new_last_one_does_where_the_last_was_stopped() -> None:
    pane = Pane("c-33333")
    stopping(two(), pane, down=2, until_shown="b-22222")
    assert pane.was == ["c-33333", "b-22222"]


def test_the_pane_closes_when_none_is_left() -> None:
    pane = Pane("a-11111")
    stopping(Stage(agent("a-11111")), pane, down=0, until_shown="")
    assert pane.was == ["a-11111", None]


def test_the_pane_of_another_agent_stays() -> None:
    pane = Pane("a-11111")
    stopping(two(), pane, down=1, until_shown="")
    assert pane.was == ["a-11111"]


def test_outside_tmux_only_the_selection_slides() -> None:
    stopping(two(), None, down=1, until_shown="c-33333")


def test_a_stop_that_fails_leaves_the_row() -> None:
    script = Script(stop=(Failed("the engine is gone", "start it"), Ended(1)))

    async def act(app: Played, pilot) -> None:
        await pilot.press("x")
        await shows(pilot, YES)
        await pilot.press("y")
        await shows(pilot, "the engine is gone: start it")
        await shows(pilot, "a-11111")

    play(two(), act, script=script)


def test_without_a_yes_nothing_is_stopped() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("x")
        await shows(pilot, YES)
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert script.run == []

    play(two(), act, script=script)


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

    play(two(), act, script=script, beside=pane)


def test_attach_outside_tmux_hands_the_terminal_over() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("enter")
        await until(pilot, lambda: bool(script.handed))
        assert script.handed[0][-2:] == ["attach", "a-11111"]

    play(two(), act, script=script)


# Edits, reading


@pytest.mark.parametrize(("key", "command"), [("e", "routes"), ("p", "allowlist")])
def test_an_edit_is_the_command_line_s_own_on_the_terminal(key: str, command: str) -> None:
    script = Script()
    script.status = 1  # the editor failed

    async def act(app: Played, pilot) -> None:
        await pilot.press(key)
        await shows(pilot, "nothing was changed")
        assert script.handed[0][-3:] == [command, "edit", "a-11111"]

    play(two(), act, script=script)


def test_an_edit_without_its_sidecar_says_why_not() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("e")
        await shows(pilot, "has no egress running")

    play(Stage(agent("a-11111", services=("firewall",), down=("egress",))), act)


def test_a_difference_is_shown_and_what_cannot_be_had_is_said() -> None:
    stage = two()
    stage.diffs["a-11111"] = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"

    async def act(app: Played, pilot) -> None:
        await pilot.press("d")
        await shows(pilot, "+new")
        await pilot.pause(0.4)
        await pilot.press("q")
        await until(pilot, lambda: len(app.screen_stack) == 1)
        stage.faults["diff"] = BottleError("it has no repository")
        await pilot.press("d")
        await shows(pilot, "it has no repository")

    play(stage, act)


def test_the_log_is_shown() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("l")
        await shows(pilot, "decisions of a-11111")

    play(two(), act)


# Proposals


def waiting() -> Stage:
    return Stage(
        agent("a-11111"),
        proposals=[asked("a-11111", "0123456789"), asked("a-11111", "1123456789", "b.example")],
    )


def test_a_proposal_is_granted_with_bounds() -> None:
    script = Script(proposals=(Said("p-0123456789 of a-11111 is approved"), Ended(0)))

    async def act(app: Played, pilot) -> None:
        await pilot.press("tab", "a")
        await shows(pilot, "!! a new host")
        await pilot.pause(0.5)
        await pilot.press("o", "y")
        await shows(pilot, "is approved")
        assert script.run == [["proposals", "approve", "a-11111/p-0123456789", "--once"]]
        assert app._tables["proposals"].selected == "a-11111/p-1123456789"

    play(waiting(), act, script=script)


def test_a_proposal_is_rejected_with_a_reason_that_is_no_option() -> None:
    script = Script(proposals=(Ended(0),))

    async def act(app: Played, pilot) -> None:
        await pilot.press("tab", "r")
        await opened(pilot)
        await pilot.pause(0.5)
        await pilot.press(*"--no", "enter")
        await shows(pilot, "is rejected")
        assert script.run == [["proposals", "reject", "a-11111/p-0123456789", "--reason=--no"]]

    play(waiting(), act, script=script)


def test_a_proposal_that_was_answered_elsewhere_is_told() -> None:
    script = Script(proposals=(Failed("p-0123456789 was rejected already", ""), Ended(1)))

    async def act(app: Played, pilot) -> None:
        await pilot.press("tab", "a")
        await shows(pilot, "!! a new host")
        await pilot.pause(0.5)
        await pilot.press("y")
        await shows(pilot, "was rejected already")
        await shows(pilot, "example.org")  # the next look says whether it waits still

    play(waiting(), act, script=script)


def test_always_shows_the_difference_before_it_is_agreed_to() -> None:
    script = Script(proposals=(Said("+ - host: example.org"), Confirm("write this?"), Ended(0)))

    async def act(app: Played, pilot) -> None:
        await pilot.press("tab", "a")
        await shows(pilot, "!! a new host")
        await pilot.pause(0.5)
        await pilot.press("A", "y")
        await shows(pilot, "+ - host: example.org")
        await shows(pilot, YES)
        assert script.told == []
        await pilot.press("y")
        await shows(pilot, "is approved")
        assert script.told == [True]

    play(waiting(), act, script=script)


def test_what_is_added_to_a_file_system_has_no_bounds() -> None:
    stage, script = waiting(), Script(proposals=(Ended(0),))
    item = stage.waiting[0]
    wanted = Asked(CAPABILITY, "the build needs it", packages=("cmake",))
    stage.waiting = [item._replace(proposal=item.proposal._replace(asked=wanted))]

    async def act(app: Played, pilot) -> None:
        await shows(pilot, "cmake")
        await pilot.press("tab", "a")
        await shows(pilot, "!! a new host")
        await pilot.pause(0.5)
        await pilot.press("y")
        await until(pilot, lambda: bool(script.run))
        assert script.run == [["proposals", "approve", "a-11111/p-0123456789"]]

    play(stage, act, script=script)


def test_modify_is_the_command_line_s_own_on_the_terminal() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("tab", "m")
        await until(pilot, lambda: bool(script.handed))
        assert script.handed[0][-3:] == ["proposals", "modify", "a-11111/p-0123456789"]

    play(waiting(), act, script=script)


@pytest.mark.parametrize("key", ["a", "m", "r"])
def test_an_answer_s_key_does_nothing_while_the_agents_have_the_focus(key: str) -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press(key)
        await shows(pilot, "Tab moves there")
        assert script.run == script.handed == []
        assert len(app.screen_stack) == 1

    play(waiting(), act, script=script)


# Around them


def test_letters_filter_the_pane_that_has_the_focus_and_esc_shows_all() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("slash", *"22")
        await until(pilot, lambda: "a-11111" not in text_of(app))
        assert "b-22222" in text_of(app)
        await pilot.press("enter", "escape")
        await shows(pilot, "a-11111")

    play(two(), act)


def test_letters_typed_into_the_filter_are_no_keys() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("slash", *"xqn")
        await pilot.pause(0.1)
        assert app.is_running
        assert script.run == []
        assert len(app.screen_stack) == 1

    play(two(), act, script=script)


def test_the_mouse_selects_and_a_second_click_opens() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.click("#agents", offset=(5, 1))
        await until(pilot, lambda: app._tables["agents"].selected == "b-22222")
        await pilot.click("#agents", offset=(5, 1), times=2)
        await until(pilot, lambda: bool(script.handed))

    play(two(), act, script=script)


def test_a_key_in_the_footer_can_be_clicked() -> None:
    async def act(app: Played, pilot) -> None:
        line = text_of(app).splitlines()[-1]
        await pilot.click("#footer", offset=(line.index("? help") + 1, 0))
        await until(pilot, lambda: len(app.screen_stack) > 1)
        check("help", app)

    play(two(), act)


def test_the_palette_has_every_action() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("colon")
        await until(pilot, lambda: len(app.screen_stack) > 1)
        await pilot.press(*"attach")
        await shows(pilot, "sit beside it")
        await pilot.press("enter")
        await until(pilot, lambda: bool(script.handed))

    play(two(), act, script=script)


def test_q_leaves_at_once() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)

    play(two(), act)


def test_the_folder_that_the_dashboard_was_started_in_is_that_of_its_acts() -> None:
    async def act(app: Played, pilot) -> None:
        assert app._folder == Path("/")

    play(two(), act)
