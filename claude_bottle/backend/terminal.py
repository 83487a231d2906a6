"""A terminal of the bottle's own, and the caller's terminal beside it.

Loaded before the bottle is entered, like all that runs afterwards: inside, the host's modules cannot be seen.
Sources: ioctl_tty(2), termios(3), pts(4).
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
import termios
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

_PASSED_ON = ("TERM", "COLORTERM")
_PTMX = os.makedev(5, 2)
_GET_PEER, _UNLOCK = 0x5441, 0x40045431  # TIOCGPTPEER, TIOCSPTLCK


def facts(environment: Mapping[str, str]) -> dict[str, str]:
    """What a program must know of the caller's terminal, where it is plainly that."""
    found = {name: environment.get(name, "") for name in _PASSED_ON}
    return {
        name: value
        for name, value in found.items()
        if value and len(value) < 64 and all(char.isalnum() or char in "-_.+" for char in value)
    }


def open_terminal() -> tuple[int, int]:
    """(master, slave) of a new terminal. Raises OSError, also where the bottle's path leads elsewhere."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW)
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _PTMX:
        raise OSError("the bottle's terminal device is not one")
    fcntl.ioctl(master, _UNLOCK, struct.pack("i", 0))
    return master, fcntl.ioctl(master, _GET_PEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def take_as_controlling(slave: int) -> None:
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def get_size(terminal: int) -> tuple[int, int]:
    """Rows and columns."""
    rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(terminal, termios.TIOCGWINSZ, b"\0" * 8))
    return rows, columns


def set_size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def follow_window_size(terminal: int, master: int) -> None:
    """Gives the bottle's terminal the size of the caller's, now and whenever that changes."""

    def copy(*_: object) -> None:
        set_size(master, *get_size(terminal))

    copy()
    signal.signal(signal.SIGWINCH, copy)


@contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Every key goes through as it is; afterwards the caller's terminal is as it was."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setraw(terminal, termios.TCSADRAIN)  # what was typed ahead is kept
        yield
    finally:
        with suppress(termios.error):  # it is gone, and there is nothing to give back
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
