"""Whether a file has changed since somebody looked, and what was read of it, kept while it has not.

Invariant: what is kept is what is there. A file that was written a moment ago is read again each time, since
within the grain of a file system's clock it could be written once more and look the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

_T = TypeVar("_T")
_GRAIN = 100_000_000  # nanoseconds


class Trace(NamedTuple):
    """What changes when a file does, whatever its owner sets its times to."""

    inode: int
    size: int
    written: int
    changed: int

    def is_older_than(self, moment: int) -> bool:
        """Whether what is read at that time, in nanoseconds, is told by this from all that comes later."""
        return moment - self.changed > _GRAIN


def trace(path: str) -> Trace | None:
    """None where there is none; a link is itself."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return Trace(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Kept(Generic[_T]):
    """What a function makes of files, by their paths; what nobody asked for in a whole turn is forgotten."""

    def __init__(self) -> None:
        self._now: dict[str, tuple[Trace, _T]] = {}
        self._before: dict[str, tuple[Trace, _T]] = {}

    def turn(self) -> None:
        self._before, self._now = self._now, {}

    def get(self, path: str, read: Callable[[], _T]) -> _T:
        """What `read` makes of this file now; it is not called where that is known."""
        seen = trace(path)
        kept = self._now.get(path) or self._before.get(path)
        if kept is None or kept[0] != seen:
            made = read()
            if seen is None or not seen.is_older_than(time.time_ns()):
                self._now.pop(path, None)
                return made
            kept = seen, made
        self._now[path] = kept
        return kept[1]
