"""One decision at a time for a bottle, and which one is under way.

Invariant: between `begin` and `end` of a decision its word is on the disk, whatever becomes of the process
that decides; who takes the lock next finds it and settles it first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from claude_bottle.errors import NotFoundError
from claude_bottle.state.paths import BottlePaths
from claude_bottle.state.store import take

_WORD = re.compile(rb"([a-z0-9-]{1,64}) ([0-9]{4}-[0-9]{2}-[0-9]{2})\n")
_LONGEST = 100


class Open(NamedTuple):
    """A decision whose end nobody has seen, and a day before which it was not made."""

    word: str
    day: str


class Intent:
    """Held while one process decides."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def open(self) -> Open | None:
        """What a process began that was killed. A torn one was never followed by anything."""
        found = _WORD.fullmatch(os.pread(self._descriptor, _LONGEST, 0))
        return Open(found[1].decode(), found[2].decode()) if found else None

    def begin(self, word: str, day: date) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{word} {day.isoformat()}\n".encode("ascii"), 0)
        os.fsync(self._descriptor)

    def end(self) -> None:
        os.ftruncate(self._descriptor, 0)


@contextlib.contextmanager
def deciding(paths: BottlePaths, *, wait: bool = True) -> Iterator[Intent]:
    """Others wait, or get BlockingIOError. Not `store.locked`, which a start and a stop hold for long."""
    try:
        descriptor = take(paths.root / "deciding", fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except FileNotFoundError as error:
        raise NotFoundError(f"{paths.root.name} is gone") from error
    try:
        yield Intent(descriptor)
    finally:
        os.close(descriptor)


def is_open(paths: BottlePaths) -> bool:
    """Whether a decision is under way, or was when its process was killed."""
    try:
        return (paths.root / "deciding").stat().st_size > 0
    except FileNotFoundError:
        return False
