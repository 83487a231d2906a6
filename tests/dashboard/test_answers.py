"""What a key makes of a proposal. The commands themselves are a script; what they do is proved elsewhere."""

from __future__ import annotations

import pytest

from claude_bottle.dashboard.acting import Confirm, Ended, Failed, Said
from claude_bottle.policy.proposals import CAPABILITY, Asked
from tests.support.dash import (
    YES,
    Played,
    Script,
    Stage,
    agent,
    asked,
    opened,
    play,
    shows,
    until,
)


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
