"""The operator's terminal: a program inside has one of its own, and types into nobody else's."""

from __future__ import annotations

import os
import termios

from claude_bottle.operations.launch import Launched
from tests.support.terminals import terminal

PUSH = """
import fcntl, os, termios
outcomes = set()
for name in (0, 1, 2, "/dev/tty", "/dev/console", "/dev/ptmx", "/proc/self/fd/0"):
    try:
        descriptor = name if isinstance(name, int) else os.open(name, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        continue
    for request in (0x5412, 0x5412 | 1 << 32, 0x541C):
        for char in b"echo injected\\n":
            try:
                fcntl.ioctl(descriptor, request, bytes([char]))
                outcomes.add("DONE")
            except (OSError, OverflowError) as error:
                outcomes.add(getattr(error, "strerror", "overflow"))
print("pushed", sorted(outcomes))
"""


def framed(cell: Launched, *argv: str) -> list[str]:
    return cell.bottle.command(list(argv), tty=True)


def test_what_is_pushed_into_its_terminal_never_arrives(cell: Launched) -> None:
    with terminal(framed(cell, "/usr/bin/python3", "-c", PUSH)) as operator:
        assert operator.finish() == 0
        assert b"pushed" in operator.screen
        assert b"DONE" not in operator.screen
        assert operator.left_to_read() == b""


def test_the_test_would_see_what_was_pushed() -> None:
    """With the host's own terminal, where the kernel still allows it; else there is no danger either."""
    push = "import fcntl, sys\nfor char in b'injected': fcntl.ioctl(0, 0x5412, bytes([char]))"
    with terminal(["/usr/bin/python3", "-c", push]) as operator:
        if operator.finish() == 0:
            assert operator.left_to_read() == b"injected"


def test_its_terminal_is_not_the_operators(cell: Launched) -> None:
    script = 'tty; stat -Lc "%t:%T %d" /proc/self/fd/0; ls -l /proc/self/fd; ls /dev/pts'
    with terminal(framed(cell, "sh", "-c", script)) as operator:
        assert operator.finish() == 0
        theirs = os.ttyname(operator.slave)
        shown = operator.screen.decode()
        assert shown.startswith("/dev/pts/")
        numbers = {word for word in shown.split() if word.isdigit()}
        assert os.stat(theirs).st_dev not in {int(number) for number in numbers}


WORK = """
stty size
read line
echo got-$line
trap 'stty size; exit 7' WINCH
echo waiting
while :; do sleep 0.05; done
"""


def test_its_terminal_works(cell: Launched) -> None:
    with terminal(framed(cell, "sh", "-c", WORK)) as operator:
        operator.wait_for(b"0 0")
        operator.type(b"hello\r")
        operator.wait_for(b"got-hello")
        operator.wait_for(b"waiting")
        operator.resize(33, 99)
        operator.wait_for(b"33 99")
        assert operator.finish() == 7


def test_what_was_typed_ahead_is_not_lost(cell: Launched) -> None:
    with terminal(framed(cell, "sh", "-c", "read line; echo got-$line")) as operator:
        operator.type(b"early\r")
        assert operator.finish() == 0
        assert b"got-early" in operator.screen


def test_the_operators_keys_reach_the_program_and_nobody_else(cell: Launched) -> None:
    script = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with terminal(framed(cell, "sh", "-c", script)) as operator:
        operator.wait_for(b"ready")
        operator.type(b"\x03")
        assert operator.finish() == 5
        assert b"interrupted" in operator.screen


def test_the_operators_terminal_is_as_before(cell: Launched) -> None:
    spoil = "stty raw -echo; stty intr ^A; kill -KILL $$"
    with terminal(framed(cell, "sh", "-c", spoil)) as operator:
        before = termios.tcgetattr(operator.slave)
        assert operator.finish() == 137
        assert termios.tcgetattr(operator.slave) == before


def test_without_a_terminal_there_is_none_inside(cell: Launched) -> None:
    assert cell.bottle.exec(["tty"]).text == "not a tty\n"
    assert cell.bottle.exec(["sh", "-c", "exec 3<>/dev/tty"]).status != 0


def test_a_tty_form_without_a_terminal_is_refused(cell: Launched) -> None:
    import subprocess

    done = subprocess.run(framed(cell, "true"), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 125
    assert b"Traceback" not in done.stderr
