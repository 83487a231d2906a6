"""The dashboard's end, when it is not the operator who ends it: what is left on the terminal."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.failing_app import SECRET
from tests.support.terminals import Terminal, terminal

ROOT = Path(__file__).resolve().parents[2]
# What the app switches on, and what switches it off: the other screen, mouse, paste, focus, the cursor.
SWITCHED = {1049: "l", 1000: "l", 1003: "l", 1006: "l", 2004: "l", 1004: "l", 25: "h"}


@contextmanager
def dashboard(what: str) -> Iterator[tuple[Terminal, list[object]]]:
    """It, once it is drawn, and the modes that its terminal had before."""
    variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    variables |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "SOME_KEY": SECRET}
    with terminal([sys.executable, "-m", "tests.support.failing_app", what], variables) as run:
        before = termios.tcgetattr(run.slave)
        run.resize(24, 80)
        run.wait_for(b"quit")
        run.wait_for(b"seen-00000" if what == "hang" else b"reviewer-ab12x")
        yield run, before


def assert_restored(run: Terminal, before: list[object]) -> None:
    assert termios.tcgetattr(run.slave) == before
    for mode, last in SWITCHED.items():
        on, off = (run.screen.rfind(b"\x1b[?%d%s" % (mode, letter)) for letter in (b"h", b"l"))
        assert (off > on) == (last == "l"), (mode, bytes(run.screen[-600:]))


def last_words(run: Terminal) -> str:
    """What stands on the operator's own screen."""
    return bytes(run.screen).rpartition(b"\x1b[?1049l")[2].decode()


@pytest.mark.parametrize("what", ["key", "draw"])
def test_an_unexpected_exception_ends_it_with_a_short_message(what: str) -> None:
    with dashboard(what) as (run, before):
        run.type(b"~")
        assert run.finish() == 1
        assert_restored(run, before)
        said = last_words(run)
        assert "RuntimeError: broken" in said
        assert "the dashboard has failed; the agents go on" in said
        assert SECRET not in run.screen.decode(errors="replace")
        assert "\x1b]" not in said
        assert "[red]and hostile[/red]" in said.replace("\r\n", "")
        assert len(said.splitlines()) < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(number: signal.Signals) -> None:
    with dashboard("nothing") as (run, before):
        run.process.send_signal(number)
        assert run.finish() == 128 + number
        assert_restored(run, before)
        assert "Traceback" not in last_words(run)


def test_a_signal_ends_it_while_another_program_has_the_terminal() -> None:
    with dashboard("hand") as (run, before):
        run.type(b"~")
        run.wait_for(b"here-I-am")
        run.process.send_signal(signal.SIGTERM)
        assert run.finish() == 128 + signal.SIGTERM
        assert_restored(run, before)


@pytest.mark.parametrize("what", ["hang", "nothing"])
def test_q_leaves_at_once_whatever_hangs(what: str) -> None:
    with dashboard(what) as (run, before):
        run.type(b"q")
        assert run.finish() == 0
        assert_restored(run, before)
