"""The decision log: one JSON line for each decision, written before the decision takes effect.

Invariant: `record` returns only when the whole line is in the file. Anything else raises
`OSError`, and the caller then denies: what cannot be recorded does not happen.

Rules:
- Keys are sorted, text is ASCII (control and terminal bytes are escaped), strings are cut at 512
  characters, so a hostile name can neither break a line nor fill the disk.
- The file is private, is never reached through a symbolic link, and is replaced once it is full:
  one older file (`.1`) is kept, so the log takes at most twice `max_bytes`.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

MAX_TEXT = 512
MAX_ITEMS = 64
MAX_DEPTH = 4

_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DecisionLog:
    """An append-only file of JSON lines with one writer."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_bytes: int = 16 * 1024 * 1024,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._now = now
        self._file = self._open()

    def record(self, event: Mapping[str, object]) -> None:
        """Append the event, with the time as "at"; raises `OSError` if it is not all written."""
        line = format_event(event, self._now())
        size = os.fstat(self._file).st_size
        if size and size + len(line) > self._max_bytes:
            size = self._rotate()
        written = os.write(self._file, line)
        if written != len(line):
            os.ftruncate(self._file, size)  # no half line for the next one to run into
            raise OSError(errno.EIO, "the decision log took only a part of a line")

    def close(self) -> None:
        os.close(self._file)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def _rotate(self) -> int:
        with suppress(FileNotFoundError):  # moved by an attempt that could not open the next file
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        full, self._file = self._file, self._open()
        os.close(full)
        return 0


def format_event(event: Mapping[str, object], at: datetime) -> bytes:
    """The event as one line; a value that JSON does not know is a programming error."""
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    bounded = {key[:MAX_TEXT]: _bounded(value) for key, value in event.items()}
    return _JSON.encode({**bounded, "at": stamp}).encode("ascii") + b"\n"


def _bounded(value: object, depth: int = 0) -> object:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 3] + "..."
    if depth >= MAX_DEPTH and isinstance(value, Mapping | list | tuple):
        return "..."
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {str(key)[:MAX_TEXT]: _bounded(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [_bounded(item, depth + 1) for item in value[:MAX_ITEMS]]
    return value
