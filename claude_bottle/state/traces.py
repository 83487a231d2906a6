"""Whether a file has changed since somebody looked, and what was read of it, kept while it has not.

Invariant: what is kept is what is there. A file that was written a moment ago is read again each time, since
within the grain of a file system's clock it could be written once more and look the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from typing import Generic, NamedTuple, TypeVar

_T = TypeVar("_T")
_GRAIN = 100_000_000  # nanoseconds


class Trace(NamedTuple):
    """What changes when a file does, whatever its owner sets its times to."""

    inode: int
    size: int
    written: int
    changed: int


def trace(path: str, folder: int | None = None) -> Trace | None:
    """None where there is none; a link is itself. `folder` is a descriptor that `path` is relative to."""
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None
    return Trace(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Kept(Generic[_T]):
    """What a function makes of files, by their paths."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Trace, _T]] = {}

    def get(self, path: str, read: Callable[[], _T]) -> _T:
        """What `read` makes of this file now; it is not called where that is known."""
        seen = trace(path)
        kept = self._kept.get(path)
        if kept is not None and kept[0] == seen:
            return kept[1]
        self._kept.pop(path, None)
        made = read()
        if seen is not None and time.time_ns() - seen.changed > _GRAIN:
            self._kept[path] = seen, made
        return made

    def keep_only(self, paths: Container[str]) -> None:
        """Forgets all others."""
        for path in [path for path in self._kept if path not in paths]:
            del self._kept[path]
