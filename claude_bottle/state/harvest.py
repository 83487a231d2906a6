"""Copying what an agent wrote out of a folder that it may be writing in at this moment.

Invariant: no link is followed anywhere on the way, nothing here waits for what an agent made (a pipe, a
lock), and a copy is whole or it is not there. What is left out is counted and named, never passed over.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from claude_bottle.text import plural, shown

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20
_CLASH = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)  # a file where a folder was, or so


class Bounds(NamedTuple):
    """How much may be taken. Entries count whatever they are."""

    files: int = 4000
    bytes: int = 512 << 20
    depth: int = 12
    entries: int = 40_000


class Left:
    """What was not taken: how much, and one of it."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, name: str, count: int = 1) -> None:
        self.count += count
        self.first = self.first or (name if count else "")

    def words(self, what: str) -> str:
        """Empty where nothing was left out."""
        if self.count == 0:
            return ""
        return f"{plural(self.count, 'part')} of {what} could not be taken, such as {shown(self.first, 80)}"


def copy_trees(
    home: Path, below: Sequence[str], names: Iterable[str], target: Path, bounds: Bounds | None = None
) -> Left:
    """Copies the folders `names`, which lie in `home`/`below`, into `target`. What is not there is fine.

    Raises OSError where `target` cannot be written.
    """
    harvest = _Harvest(target, bounds or Bounds())
    opened: list[int] = []
    try:
        descriptor = os.open(home, _OPEN | os.O_DIRECTORY)
        opened.append(descriptor)
        for name in below:
            descriptor = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=descriptor)
            opened.append(descriptor)
    except FileNotFoundError:
        return harvest.left
    except OSError:
        harvest.left.add("/".join(below))
        return harvest.left
    else:
        for name in names:
            harvest.take(descriptor, name, name)
        return harvest.left
    finally:
        for each in opened:
            os.close(each)


def copy_file(source: Path, target: Path, limit: int) -> bool:
    """False where it is longer than that, or no plain file. One that is not there is fine."""
    try:
        descriptor = os.open(source, _OPEN)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return False
        write_copy(descriptor, found.st_size, target, target.parent)
        return True
    finally:
        os.close(descriptor)


def write_copy(source: int, size: int, target: Path, beside: Path) -> None:
    """At most `size` bytes of an open file, under its name only when all are there. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = beside / f".new-{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as copy:
            while size > 0 and (chunk := os.read(source, min(size, _CHUNK))):
                copy.write(chunk)
                size -= len(chunk)
        os.rename(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


class _Harvest:
    """One walk: what may still be taken, and what was left out."""

    def __init__(self, target: Path, bounds: Bounds) -> None:
        self._target = target
        self._files, self._bytes, self._depth, self._entries = bounds
        self.left = Left()

    def take(self, folder: int, name: str, at: str) -> None:
        """A file or a folder with all that is in it. Links, pipes and the like are nobody's words."""
        try:
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                return
            descriptor = os.open(name, _OPEN, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError:
            self.left.add(at)
            return
        try:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                self._folder(descriptor, at)
            elif stat.S_ISREG(found.st_mode):
                self._file(descriptor, found.st_size, at)
        finally:
            os.close(descriptor)

    def _folder(self, descriptor: int, at: str) -> None:
        if at.count("/") >= self._depth - 1:
            self.left.add(at)
            return
        with os.scandir(descriptor) as found:
            names = sorted(entry.name for entry in islice(found, self._entries + 1))
        if len(names) > self._entries:
            self.left.add(at)
        self._entries -= min(len(names), self._entries)
        for name in names:
            self.take(descriptor, name, f"{at}/{name}")

    def _file(self, descriptor: int, size: int, at: str) -> None:
        if self._files == 0 or size > self._bytes:
            self.left.add(at)
            return
        self._files, self._bytes = self._files - 1, self._bytes - size
        self._target.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_copy(descriptor, size, self._target / at, self._target)
        except OSError as error:
            if error.errno not in _CLASH:
                raise
            self.left.add(at)
