"""The folder in which Envoy comes up while its bottle is still being planned; later it becomes the bottle's.

Theory. Mounts and working directories follow a folder that is renamed, so Envoy never notices.

Invariant: no bottle can have a cradle's name, and one that nobody moved is removed: by its keeper, or, where
that was killed too, by a start on a later day. Until then it holds nothing but Envoy's empty configuration.
"""

from __future__ import annotations

import os
import time

_PREFIX = ".cradle-"  # no slug begins like this
_DAY = 86400.0


def new_name(state: str) -> str:
    return os.path.join(state, _PREFIX + os.urandom(8).hex())


def make(cradle: str, uid: int | None) -> None:
    """Makes the folder, private to `uid` where that is another identity. Raises OSError where it exists."""
    os.mkdir(cradle, 0o700)
    if uid is not None:
        os.chown(cradle, uid, uid)


def remove(cradle: str) -> None:
    """Fine if it is gone. Raises BottleError."""
    if os.path.lexists(cradle):
        from pathlib import Path

        from claude_bottle.state.trees import remove_trees

        remove_trees([Path(cradle)])


def remove_forgotten(state: str) -> None:
    """Those that are older than any start can be. Raises BottleError or OSError."""
    for name in os.listdir(state):
        if name.startswith(_PREFIX):
            cradle = os.path.join(state, name)
            try:
                age = time.time() - os.lstat(cradle).st_mtime
            except FileNotFoundError:
                continue  # moved or removed meanwhile
            if age > _DAY:
                remove(cradle)
