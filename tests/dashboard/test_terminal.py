"""The terminal is handed over whole, and comes back whole: a small app in a real tmux."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_bottle.dashboard.terminal import hand_over
from claude_bottle.errors import BottleError
from tests.support.e2e import ROOT, eventually
from tests.support.e2e_terminal import Terminal, bare_terminal
from tests.support.terminals import terminal

APP = ROOT / "tests" / "support" / "handing_app.py"
MODES = "#{alternate_on} #{mouse_any_flag} #{cursor_flag} #{scroll_region_upper}"
DRAWN, PLAIN = "1 1 0 0", "0 0 1 0"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    with bare_terminal(tmp_path / "tmux.sock", home, tmp_path) as found:
        yield found


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """A shell script as a program; the command that starts the app, for which it is `h`."""

    def make(script: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return begin(str(path))

    return make


def begin(*argv: str) -> str:
    return shlex.join([sys.executable, str(APP), str(ROOT), *argv])


def look(shell: Terminal) -> str:
    """What stands on the screen now, and nothing above it."""
    return shell.tmux("capture-pane", "-p")


def modes(shell: Terminal) -> str:
    return shell.tmux("display-message", "-p", MODES).strip()


def see_app(shell: Terminal, words: str, size: str = "100x30") -> None:
    """The app, drawn from the first row to the last, in the modes that it needs."""
    last = int(size.partition("x")[2]) - 2

    def drawn() -> bool:
        rows = look(shell).splitlines()
        return rows[:2] == [f"app {size}: {words}", "row 0"] and rows[-1].startswith(f"row {last}")

    eventually(drawn, lambda: look(shell))
    eventually(lambda: modes(shell) == DRAWN, lambda: modes(shell))


def click(shell: Terminal, column: int, row: int) -> None:
    """As a terminal says it where the mouse is on."""
    for end in "Mm":
        shell.type(f"\x1b[<0;{column};{row}{end}")


@pytest.mark.needs("tmux")
class TestInARealTerminal:
    def test_the_program_has_the_operators_own_terminal_and_the_app_its_own_again(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        settings = shell.say("stty -g").strip()
        shell.enter(program("echo settings=$(stty -g); stty size; read line; echo read=$line"))
        see_app(shell, "ready")
        shell.press("h")
        shell.see(f"settings={settings}", "30 100")
        assert modes(shell) == PLAIN
        shell.enter("hqx")
        see_app(shell, "back with 0")
        click(shell, 5, 3)
        see_app(shell, "click 4,2")
        shell.press("q")
        eventually(lambda: modes(shell) == PLAIN)
        assert "read=hqx" in look(shell)
        assert shell.say("stty -g").strip() == settings  # below what the program said, not over it

    def test_again_and_again(self, shell: Terminal, program: Callable[[str], str]) -> None:
        shell.enter(program("read line"))
        see_app(shell, "ready")
        for _ in range(3):
            shell.press("h")
            eventually(lambda: modes(shell) == PLAIN)
            shell.press("Enter")
            see_app(shell, "back with 0")
            shell.press("j")
            see_app(shell, "key j")

    def test_a_terminal_that_was_resized_meanwhile(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        shell.enter(program("read line; stty size; read line"))
        see_app(shell, "ready")
        shell.press("h")
        eventually(lambda: modes(shell) == PLAIN)
        shell.resize(80, 24)
        shell.press("Enter")
        shell.see("24 80")
        shell.press("Enter")
        see_app(shell, "back with 0", "80x24")

    def test_the_words_of_a_failure_stay_until_enter(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        shell.enter(program("echo it is not there >&2; exit 3"))
        see_app(shell, "ready")
        shell.press("h")
        shell.see("it is not there", "status 3: Enter goes back to the dashboard")
        assert modes(shell) == PLAIN
        shell.enter("hj")  # not for the app
        see_app(shell, "back with 3")

    def test_nobody_waits_where_the_status_is_somebody_elses(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        shell.enter(program("exit 3"))
        see_app(shell, "ready")
        shell.press("s")
        see_app(shell, "back with 3")

    def test_what_a_killed_program_leaves_behind_is_taken_back(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        left = r"\033[?1049h\033[?1003h\033[?1006h\033[?2004h\033[?1h\033=\033[3;5r\033[?6h\033[?25l\033[31m\033(0"
        settings = shell.say("stty -g").strip()
        second = "[ -e again ] && echo settings=$(stty -g) && read line && exit 0; touch again"
        shell.enter(program(f"{second}; printf '{left}broken'; stty raw -echo; kill -KILL $$"))
        see_app(shell, "ready")
        shell.press("h")
        shell.see("status 137: Enter goes back")
        assert modes(shell).split()[1:] == PLAIN.split()[1:]
        shell.press("Enter")
        see_app(shell, "back with 137")
        shell.press("Up")
        see_app(shell, "key up")
        shell.press("h")
        shell.see(f"settings={settings}")
        shell.press("Enter")
        see_app(shell, "back with 0")
        shell.press("q")
        eventually(lambda: modes(shell) == PLAIN)
        assert shell.say("echo plain").strip() == "plain"

    def test_ctrl_c_and_ctrl_backslash_are_the_programs(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        shell.enter(
            program(
                "trap 'echo int' INT; trap 'echo quit; exit 0' QUIT; echo here; while :; do sleep 0.1; done"
            )
        )
        see_app(shell, "ready")
        shell.press("h")
        shell.see("here")
        shell.press("C-c")
        shell.see("int")
        assert modes(shell) == PLAIN
        shell.press("C-\\")
        see_app(shell, "back with 0")

    def test_a_program_that_ctrl_c_ends(self, shell: Terminal, program: Callable[[str], str]) -> None:
        shell.enter(program("echo here; exec sleep 600"))
        see_app(shell, "ready")
        shell.press("h")
        shell.see("here")
        shell.press("C-c")
        shell.see("status 130: Enter")
        shell.press("C-c")  # it is not an answer, and no harm
        shell.press("Enter")
        see_app(shell, "back with 130")

    def test_ctrl_z_stops_the_whole_job_and_fg_goes_on(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        shell.enter(program("echo here; read line; echo read=$line"))
        see_app(shell, "ready")
        shell.press("h")
        shell.see("here")
        shell.press("C-z")
        shell.see("Stopped")
        assert shell.say("echo the shell").strip() == "the shell"
        shell.enter("fg")
        shell.see("handing_app.py", "the shell")
        shell.enter("more")
        see_app(shell, "back with 0")

    def test_keys_that_were_typed_ahead_are_not_the_apps(
        self, shell: Terminal, program: Callable[[str], str]
    ) -> None:
        shell.enter(program("echo here; while [ ! -e go ]; do sleep 0.1; done"))
        see_app(shell, "ready")
        shell.press("h")
        shell.see("here")
        shell.type("jqh")
        shell.see("jqh")
        shell.tmux("run-shell", f"touch {shlex.quote(str(shell._socket.parent / 'go'))}")
        see_app(shell, "back with 0")
        shell.press("k")
        see_app(shell, "key k")

    def test_what_cannot_be_started_leaves_the_app_on_its_screen(self, shell: Terminal) -> None:
        shell.enter(begin("/no/such/program"))
        see_app(shell, "ready")
        shell.press("h")
        see_app(shell, "failed: /no/such/program cannot be started: No such file or directory")
        shell.press("j")
        see_app(shell, "key j")


def test_ctrl_z_stops_nothing_where_nobody_could_bring_it_back(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    argv = shlex.split(program("echo here; read line; echo read=$line; read line"))
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "TERM": "xterm-256color"}
    with terminal(["env", "-C", str(tmp_path), *argv], home) as alone:  # as of a terminal window of its own
        alone.resize(30, 100)
        alone.wait_for(b"row 5")
        alone.type(b"h")
        alone.wait_for(b"here")
        alone.type(b"\x1ahello\n")
        alone.wait_for(b"read=hello")
        alone.type(b"\n")
        alone.wait_for(b"back with")
        alone.type(b"q")
        assert alone.finish() == 0


def test_an_app_without_a_terminal_cannot_hand_one_over() -> None:
    from textual.app import App

    async def run() -> None:
        app: App[None] = App()
        async with app.run_test():
            with pytest.raises(BottleError, match="cannot hand its terminal over") as caught:
                hand_over(app, ["claude-bottle", "attach", "dev abc"], {})
            assert caught.value.hint == "in another one: claude-bottle attach 'dev abc'"

    asyncio.run(run())
