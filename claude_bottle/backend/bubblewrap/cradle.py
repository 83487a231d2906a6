"""The folder in which Envoy comes up while its bottle is still being planned; later it becomes the bottle's.

Theory. Mounts and working directories follow a folder that is renamed, so Envoy never notices. A lock on the
folder itself, flock(2), ends with the process that holds it, so nobody has to guess whether it is forgotten.

Invariant: no bottle can have a cradle's name, and one that nobody moved is removed: by its keeper, or, where
that was killed too, by the next start or `cleanup`. Until then it holds no more than Envoy's empty files.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

_PREFIX = ".cradle-"  # no slug begins like this


def new_name(state: str) -> str:
    return os.path.join(state, _PREFIX + os.urandom(8).hex())


def make(cradle: str, uid: int | None) -> int:
    """Makes the folder, private to `uid` where that is another identity. Raises OSError where it exists.

    It is in use until the descriptor closes.
    """
    while True:
        os.mkdir(cradle, 0o700)
        descriptor = os.open(cradle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, cradle):
            break
        os.close(descriptor)  # somebody found it before it was locked, and took it for a forgotten one
    if uid is not None:
        os.chown(cradle, uid, uid)
    return descriptor


def remove(cradle: str) -> None:
    """Fine if it is gone. Raises BottleError."""
    if os.path.lexists(cradle):
        from pathlib import Path

        from claude_bottle.state.trees import remove_trees

        remove_trees([Path(cradle)])


def forgotten(state: str) -> list[str]:
    """Those that nobody uses. Raises OSError."""
    found = [os.path.join(state, name) for name in os.listdir(state) if name.startswith(_PREFIX)]
    return [cradle for cradle in found if not _is_used(cradle)]


def remove_forgotten(state: str) -> None:
    """Raises BottleError or OSError."""
    for cradle in forgotten(state):
        remove_unused(cradle)


def remove_unused(cradle: str) -> None:
    """Unless somebody uses it by now. Raises BottleError or OSError."""
    if os.path.islink(cradle):
        os.unlink(cradle)
        return
    with suppress(FileNotFoundError, BlockingIOError):
        descriptor = _open(cradle)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, cradle):
                remove(cradle)
        finally:
            os.close(descriptor)


def _is_used(cradle: str) -> bool:
    """What is moved or removed just now is, by somebody."""
    if os.path.islink(cradle):
        return False
    try:
        descriptor = _open(cradle)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(cradle: str) -> int:
    return os.open(cradle, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the name still leads to what is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
