"""Edits, reading, and what stands around the panes: the filter, the mouse, the palette."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from tests.support.dash import (
    Played,
    Script,
    Stage,
    agent,
    check,
    play,
    shows,
    text_of,
    three,
    until,
)


@pytest.mark.parametrize(("key", "command"), [("e", "routes"), ("p", "allowlist")])
def test_an_edit_is_the_command_line_s_own_on_the_terminal(key: str, command: str) -> None:
    script = Script()
    script.status = 1  # the editor failed

    async def act(app: Played, pilot) -> None:
        await pilot.press(key)
        await shows(pilot, "nothing was changed")
        assert script.handed[0][-3:] == [command, "edit", "a-11111"]

    play(three(), act, script=script)


def test_an_edit_without_its_sidecar_says_why_not() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("e")
        await shows(pilot, "has no egress running")

    play(Stage(agent("a-11111", services=("firewall",), down=("egress",))), act)


def test_a_difference_is_shown_and_what_cannot_be_had_is_said() -> None:
    stage = three()
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

    play(three(), act)


def test_letters_filter_the_pane_that_has_the_focus_and_esc_shows_all() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("slash", *"22")
        await until(pilot, lambda: "a-11111" not in text_of(app))
        assert "b-22222" in text_of(app)
        await pilot.press("enter", "escape")
        await shows(pilot, "a-11111")

    play(three(), act)


def test_letters_typed_into_the_filter_are_no_keys() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("slash", *"xqn")
        await pilot.pause(0.1)
        assert app.is_running
        assert script.run == []
        assert len(app.screen_stack) == 1

    play(three(), act, script=script)


def test_the_mouse_selects_and_a_second_click_opens() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.click("#agents", offset=(5, 1))
        await until(pilot, lambda: app._tables["agents"].selected == "b-22222")
        await pilot.click("#agents", offset=(5, 1), times=2)
        await until(pilot, lambda: bool(script.handed))

    play(three(), act, script=script)


def test_a_key_in_the_footer_can_be_clicked() -> None:
    async def act(app: Played, pilot) -> None:
        line = text_of(app).splitlines()[-1]
        await pilot.click("#footer", offset=(line.index("? help") + 1, 0))
        await until(pilot, lambda: len(app.screen_stack) > 1)
        check("help", app)

    play(three(), act)


def test_the_palette_has_every_action() -> None:
    script = Script()

    async def act(app: Played, pilot) -> None:
        await pilot.press("colon")
        await until(pilot, lambda: len(app.screen_stack) > 1)
        await pilot.press(*"attach")
        await shows(pilot, "sit beside it")
        await pilot.press("enter")
        await until(pilot, lambda: bool(script.handed))

    play(three(), act, script=script)


def test_q_leaves_at_once() -> None:
    async def act(app: Played, pilot) -> None:
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)

    play(three(), act)


def test_the_folder_that_the_dashboard_was_started_in_is_that_of_its_acts() -> None:
    async def act(app: Played, pilot) -> None:
        assert app._folder == Path("/")

    play(three(), act)


def test_a_message_goes_by_itself_and_a_failure_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_bottle.dashboard.app._MESSAGE_SECONDS", 0.0)

    async def act(app: Played, pilot) -> None:
        app.say("all is well")
        await shows(pilot, "a-11111  agent a")
        app.say("it has failed", "bad")
        await pilot.pause(1.5)
        assert "it has failed" in text_of(app)
        await pilot.press("j")
        await shows(pilot, "b-22222  agent b")

    play(three(), act)
