"""Whether a bottle lives, and by whom: its keeper holds a record lock in the run directory until it ends.

Invariant: the kernel names the holder, and lets go when the holder ends, however that was.
"""

from __future__ import annotations

import fcntl
import os
import struct

LOCK, ENTRY, CONTROL = "lock", "entry", "control"
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: fcntl_locking(2)


def take_lock(run: str) -> int:
    """Locks the run directory for this process. Raises BlockingIOError.

    The descriptor must stay open, and the process must not open the file again: closing any descriptor of a
    file gives up all record locks that a process has on it (fcntl_locking(2)).
    """
    fd = os.open(os.path.join(run, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def lock_holder(run: str) -> int:
    """The process that keeps this bottle alive, as the kernel names it; 0 where there is none."""
    try:
        fd = os.open(os.path.join(run, LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, query))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(fd)
