"""A program elsewhere on the caller's own terminal, which is as it was when the call is over, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE, eventually, running_with
from tests.support.terminals import Terminal, terminal
from tests.unit.backend.remote.calls import WRITER, appears, call, caller, child_of, run, script, transport

SIZE = "33 101"


@contextmanager
def on_terminal(argv: list[str]) -> Iterator[Terminal]:
    """The size is set before anything starts; settings are compared when it has ended."""
    sized = ["sh", "-c", 'stty rows 33 cols 101; exec "$@"', "sh", *argv]
    with terminal(sized) as found:
        yield found


def settings(found: Terminal) -> list[object]:
    return termios.tcgetattr(found.slave)


def raw(found: Terminal) -> bool:
    return not termios.tcgetattr(found.slave)[3] & termios.ICANON


def test_the_size_is_the_callers_at_the_start_and_after_a_change(place: Path) -> None:
    program = "trap 'echo \"now $(stty size)\"' WINCH; stty size; echo ready; while :; do sleep 0.02; done"
    with on_terminal(call(place, "sh", "-c", program, tty=True)) as found:
        found.wait_for(b"ready")
        assert SIZE.encode() in found.screen
        found.resize(44, 202)
        found.wait_for(b"now 44 202")
        found.resize(0xFFFF, 1)
        found.wait_for(b"now 65535 1")


def test_keys_are_bytes_and_only_the_program_gives_them_a_meaning(place: Path) -> None:
    keys = b"\x03\x1a\x1c\x04\x11\x13\x7f\xff\x00\r\n"
    program = f"stty raw -echo; echo ready; head -c {len(keys)} | od -An -v -tx1 | tr -d ' \\n'"
    with on_terminal(call(place, "sh", "-c", program, tty=True)) as found:
        found.wait_for(b"ready")
        found.type(keys)
        found.wait_for(keys.hex().encode())
        assert found.finish() == 0


def test_an_interrupt_key_is_for_the_program_alone(place: Path) -> None:
    program = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done"
    with on_terminal(call(place, "sh", "-c", program, tty=True)) as found:
        found.wait_for(b"ready")
        found.type(b"\x03")
        found.wait_for(b"caught")
        assert found.finish() == 9


def test_the_program_leads_a_terminal_of_its_own(place: Path) -> None:
    with on_terminal(
        call(place, "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && tty; : >/dev/tty", tty=True)
    ) as f:
        assert f.finish() == 0
        assert b"/dev/pts/" in f.screen
        assert os.ttyname(f.slave).encode() not in f.screen


def end_program(_: int, inside: int) -> None:
    os.kill(child_of(inside), signal.SIGKILL)


def end_transport(_: int, inside: int) -> None:
    os.kill(inside, signal.SIGKILL)


def end_caller(outside: int, _: int) -> None:
    os.kill(outside, signal.SIGTERM)


def hang_up(outside: int, _: int) -> None:
    os.kill(outside, signal.SIGHUP)


@pytest.mark.parametrize(
    ("end", "status"),
    [(end_program, 137), (end_transport, 125), (end_caller, 143), (hang_up, 129)],
    ids=["program-killed", "transport-killed", "caller-terminated", "caller-hung-up"],
)
def test_the_terminal_is_given_back_as_it_was(
    place: Path, end: Callable[[int, int], None], status: int
) -> None:
    with on_terminal(call(place, "sh", "-c", "stty -a; echo ready; exec sleep 1000", tty=True)) as found:
        before = settings(found)
        found.wait_for(b"ready")
        assert raw(found)
        end(found.process.pid, child_of(found.process.pid))
        assert found.finish() == status
        assert settings(found) == before
        assert b"Traceback" not in found.screen
        assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("body", ["say(b'?' * 100)", "say(number(b'x', 0) * 2)", "pass"])
def test_the_terminal_is_given_back_to_a_caller_of_something_hostile(place: Path, body: str) -> None:
    wait = "while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.01)"
    with on_terminal(caller(script(place, f"{wait}\n{body}"), tty=True)) as found:
        before = settings(found)
        assert eventually(lambda: raw(found))
        (place / "go").touch()
        assert found.finish() == 125
        assert settings(found) == before


def test_what_was_typed_ahead_is_kept(place: Path) -> None:
    with on_terminal(call(place, "sh", "-c", "read x; echo got $x", tty=True)) as found:
        found.type(b"early\n")
        found.wait_for(b"got early")
        assert found.finish() == 0


@pytest.mark.parametrize("stdin", ["nothing", "pipe", "closed"])
def test_without_a_terminal_nothing_is_started(place: Path, stdin: str) -> None:
    started = caller(["touch", str(place / "started")], tty=True)
    argv = ["sh", "-c", 'exec "$@" <&-', "sh", *started] if stdin == "closed" else started
    if stdin == "nothing":
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    else:
        status, out, err = run(argv)
    assert (status, out, err.count(b"\n")) == (125, b"", 1)
    assert err.startswith(b"claude-bottle: cannot enter the bottle")
    assert not (place / "started").exists()


def test_a_signal_reaches_the_program_though_the_terminal_shows_nothing_more(place: Path) -> None:
    """As where it was stopped by a key, or whatever draws it is: the screen is full, and nobody looks."""
    with on_terminal(call(place, *script(place, WRITER), tty=True)) as found:
        assert appears(place / "full")
        found.process.send_signal(signal.SIGTERM)
        assert appears(place / "caught-15")


def test_a_terminal_that_goes_away_ends_it_without_a_traceback(place: Path) -> None:
    inner = transport(place, "sh", "-c", "touch ready; exec sleep 1000", tty=True)
    master, slave = os.openpty()
    argv = ["setsid", "--ctty", *caller(inner, tty=True)]
    with open(place / "words", "wb") as words:
        process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=words)
    os.close(slave)
    try:
        assert appears(place / "ready")
    finally:
        os.close(master)  # whose other end was the last: the kernel hangs the terminal up
    try:
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert eventually(lambda: running_with(str(place)) == [])
    assert (place / "words").read_bytes() == b""
