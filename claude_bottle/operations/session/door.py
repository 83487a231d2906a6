"""How a viewer finds the holder of a bottle: a socket and a lock in the state folder, and what is said there.

Invariant: whoever holds the lock is the holder, and only that process makes or removes the socket. The
folder is the operator's alone.

Both say frames (see `backend.remote.frames`): a viewer DATA for the agent and WINDOW, first of all and when
its terminal's size changes; the holder OUT for the screen, ERR for words of its own, and at the end STATUS,
or AGAIN where the bottle was launched again and another holder has its terminal.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from claude_bottle.backend.remote.frames import AGAIN, DATA, ERR, OUT, STATUS, WINDOW

FROM_VIEWER = frozenset((DATA, WINDOW))
FROM_HOLDER = frozenset((OUT, ERR, STATUS, AGAIN))
_WAITING = 16


def take_lock(folder: Path) -> int | None:
    """Makes the folder where it is missing. None where somebody else is the holder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def listen(folder: Path) -> socket.socket:
    """For who has the lock."""
    with ExitStack() as undo, _address(folder) as address:
        with suppress(FileNotFoundError):
            os.unlink(address)
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        mask = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(mask)
        listener.listen(_WAITING)
        listener.setblocking(False)
        undo.pop_all()
    return listener


def knock(folder: Path) -> socket.socket | None:
    """A connection to the holder; None where there is none."""
    with suppress(FileNotFoundError, ConnectionRefusedError), ExitStack() as undo:
        viewer = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        with _address(folder) as address:
            viewer.connect(address)
        undo.pop_all()
        return viewer
    return None


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """unix(7) has room for 107 bytes, and a home may be deeper than that."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/socket"
    finally:
        os.close(descriptor)
