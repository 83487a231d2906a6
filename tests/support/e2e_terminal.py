"""A real terminal: a tmux server of the test's own with one shell in it."""

from __future__ import annotations

import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.e2e import Cli, eventually, write

READY = "bypass permissions on"  # what Claude Code shows when it takes a prompt
_QUIET_SHELL = "PS1='$ ' exec bash --norc --noprofile"


class Terminal:
    """What a person at this terminal types and sees; where it has several panes, in this one."""

    def __init__(self, socket: Path, pane: str = "") -> None:
        self._socket = socket
        self._at = ("-t", pane) if pane else ()

    def at(self, pane: str) -> Terminal:
        return Terminal(self._socket, pane)

    def tmux(self, *arguments: str) -> str:
        argv = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    @property
    def screen(self) -> str:
        """All that is on the screen and above it, without colours."""
        return self.tmux("capture-pane", *self._at, "-p", "-S", "-2000", "-J")

    def see(self, *words: str) -> str:
        """Waits until all of these are to be seen."""
        eventually(
            lambda: all(word in self.screen for word in words), lambda: f"{words} not in:\n{self.screen}"
        )
        return self.screen

    @property
    def look(self) -> str:
        """What is on the screen now."""
        return self.tmux("capture-pane", *self._at, "-p")

    def type(self, text: str) -> None:
        self.tmux("send-keys", *self._at, "-l", "--", text)

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *self._at, *keys)

    def enter(self, line: str) -> None:
        self.type(line)
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def say(self, line: str) -> str:
        """Runs a line in the shell and returns what it said."""
        mark = secrets.token_hex(4)
        self.enter(f"printf '<%s>' {mark}; {line}; printf '</%s>' {mark}")
        return self.see(f"</{mark}>").partition(f"<{mark}>")[2].partition(f"</{mark}>")[0]


@contextmanager
def terminal(cli: Cli, env: Mapping[str, str] | None = None, name: str = "tmux") -> Iterator[Terminal]:
    """A shell in the operator's project, with only the operator's environment."""
    with bare_terminal(cli.root / f"{name}.sock", {**cli.env, **(env or {})}, cli.project) as found:
        yield found


@contextmanager
def bare_terminal(socket: Path, environment: Mapping[str, str], folder: Path) -> Iterator[Terminal]:
    """A shell in a tmux server of its own, with this environment and no other."""
    found = Terminal(socket)
    variables = [f"{name}={value}" for name, value in {**environment, "TERM": "tmux-256color"}.items()]
    shell = shlex.join(["env", "-i", *variables, "bash", "-c", _QUIET_SHELL])
    found.tmux("new-session", "-d", "-x", "100", "-y", "30", "-c", str(folder), shell)
    try:
        found.see("$ ")
        yield found
    finally:
        if _alive(found):
            found.tmux("kill-server")
        eventually(lambda: not found._socket.exists() or not _alive(found))


def _alive(of: Terminal) -> bool:
    try:
        of.tmux("list-sessions")
    except subprocess.CalledProcessError:
        return False
    return True


def command_line(cli: Cli, *arguments: str) -> str:
    """The command as it would be typed."""
    return shlex.join([*cli.command, *arguments])


def know_command(cli: Cli) -> None:
    """This operator's shells find `claude-bottle`."""
    program = write(cli.user_home / "claude-bottle", f'#!/bin/sh\nexec {command_line(cli)} "$@"\n')
    program.chmod(0o755)
    cli.more["PATH"] = f"{cli.user_home}:{cli.env['PATH']}"


def enter_claude(shell: Terminal, command: str) -> None:
    """Runs what ends in Claude Code on this terminal; afterwards its status is to be seen."""
    shell.press("C-l")
    eventually(lambda: shell.tmux("capture-pane", "-p").strip() == "$")  # what was there is history only now
    shell.tmux("clear-history")
    shell.enter(f'{command}; echo "status=$?"')
    shell.see(READY)


def ask(shell: Terminal, words: str, answer: str) -> None:
    """Types a prompt into Claude Code, once it takes it, and waits for the answer."""
    shell.type(words)
    shell.see(words)
    shell.press("Enter")
    shell.see(answer)


def choose(shell: Terminal, answer: str) -> None:
    """Takes the first choice of the question on the screen. Claude Code drops keys while it draws one."""

    def answered() -> bool:
        shell.press("Enter")  # once more than it takes is an empty prompt
        time.sleep(0.5)
        return answer in shell.screen

    eventually(answered, lambda: shell.screen)


def leave_claude(shell: Terminal) -> None:
    shell.press("C-c")
    shell.see("Press Ctrl-C again to exit")
    shell.press("C-c")


def await_written(cli: Cli, slug: str, words: str) -> None:
    """Claude Code writes its transcript a moment after it has shown an answer."""
    eventually(lambda: cli.inside(slug, f"grep -rqF {shlex.quote(words)} ~/.claude/projects").status == 0)
