"""Claude Code's session files, brought out of a bottle as bytes: read here, understood elsewhere.

Invariant: the folder is written by what runs inside, so no link is followed, nothing but a plain file is
read, nothing is waited for, and names, files and bytes are bounded.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import time
from collections.abc import Container, Iterable
from contextlib import suppress
from itertools import islice

from claude_bottle.backend.base import SessionFile
from claude_bottle.state.traces import Trace, trace

FOLDER = (".claude", "sessions")  # below the home of the bottle's user
ARCHIVE_BYTES = 1 << 20
_NAMES, _FILES, _BYTES = 256, 16, 16 << 10
_LONGEST_NAME = len("4194304.json")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_sessions(root: str, *parts: str) -> tuple[SessionFile, ...]:
    """Those in a folder of the host, newest first. `root` is the operator's, each of `parts` the bottle's."""
    try:
        folder = _open_folder(root, parts)
    except OSError:
        return ()
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _NAMES) if _is_session(entry.name)]
        return _newest(file for name in names if (file := _read(folder, name)))
    except OSError:
        return ()
    finally:
        os.close(folder)


class Known:
    """The same, again and again: what has not changed is not read again.

    Whether it has is asked by names, which may lead through links that were put there meanwhile. They lead to
    no content: what could be seen of it is only that nothing has changed.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[dict[str, Trace | None], tuple[SessionFile, ...]]] = {}

    def read(self, root: str, *parts: str) -> tuple[SessionFile, ...]:
        kept = self._kept.get(root)
        if kept is not None and all(trace(path) == before for path, before in kept[0].items()):
            return kept[1]
        moment = time.time_ns()
        found = read_sessions(root, *parts)
        folder = "/".join((root, *parts))
        seen = {path: trace(path) for path in (folder, *(f"{folder}/{file.name}" for file in found))}
        self._kept.pop(root, None)
        if all(item is not None and item.is_older_than(moment) for item in seen.values()):
            self._kept[root] = seen, found
        return found

    def forget(self, but: Container[str]) -> None:
        self._kept = {root: kept for root, kept in self._kept.items() if root in but}


def numbers_of(files: Iterable[SessionFile]) -> set[int]:
    """Of the processes that wrote them, if they say so truly."""
    return {int(file.name.partition(".")[0]) for file in files}


def _open_folder(root: str, parts: Iterable[str]) -> int:
    folder = os.open(root, _FOLDER_FLAGS)
    for part in parts:
        above = folder
        try:
            folder = os.open(part, _FOLDER_FLAGS, dir_fd=above)
        finally:
            os.close(above)
    return folder


def _read(folder: int, name: str) -> SessionFile | None:
    with suppress(OSError):
        file = os.open(name, _FILE_FLAGS, dir_fd=folder)
        try:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_size <= _BYTES:
                return SessionFile(name, os.read(file, _BYTES), found.st_mtime)
        finally:
            os.close(file)
    return None


def from_archive(stream: bytes) -> tuple[SessionFile, ...]:
    """Those in what an engine made of the folder, newest first; none where that is no archive."""
    found: list[SessionFile] = []
    try:
        with tarfile.open(mode="r:", fileobj=io.BytesIO(stream)) as tar:
            for entry in islice(tar, _NAMES):
                name = entry.name.rpartition("/")[2]
                if entry.isreg() and 0 <= entry.size <= _BYTES and _is_session(name):
                    content = tar.extractfile(entry)
                    assert content is not None
                    found.append(SessionFile(name, content.read(_BYTES), float(entry.mtime)))
    except (tarfile.TarError, ValueError, OverflowError, OSError):
        return ()
    return _newest(found)


def _newest(found: Iterable[SessionFile]) -> tuple[SessionFile, ...]:
    return tuple(sorted(found, key=lambda file: (-file.written, file.name))[:_FILES])


def _is_session(name: str) -> bool:
    number, _, ending = name.partition(".")
    return ending == "json" and len(name) <= _LONGEST_NAME and number.isascii() and number.isdecimal()
