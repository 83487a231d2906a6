"""Which services of a bottle are up: a file that its bundle writes, and that `list` reads.

Invariant: it only narrows. Whether the bottle lives is never asked here; a name that is not known is none; a
record that cannot be read names none. It is for showing, and nothing is decided by it.

A write goes over the old record in its whole length, so it needs no room, and no reader sees half of it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

SERVICES_FILE = "services"
SERVICES = ("egress", "firewall")  # of every bottle
SUPERVISE = "supervise"  # of those whose agent may propose changes
_KNOWN = (*SERVICES, SUPERVISE)
_DOWN = "-"  # stands before the name of one that should be up
_LENGTH = 64


class Record:
    """The bundle's end of it."""

    def __init__(self, path: str) -> None:
        """Raises OSError where there can be no new file of this name."""
        Path(path).unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)

    def write(self, up: Iterable[str], down: Iterable[str] = ()) -> None:
        words = [*up, *(_DOWN + name for name in down)]
        os.pwrite(self._file, " ".join(words).ljust(_LENGTH - 1).encode() + b"\n", 0)


def services_up(path: Path) -> tuple[str, ...] | None:
    """None where nobody keeps such a record."""
    words = _words(path)
    return None if words is None else tuple(name for name in _KNOWN if name in words)


def services_down(path: Path) -> tuple[str, ...]:
    """Those of which the bundle itself says that they should be up."""
    words = _words(path) or []
    return tuple(name for name in _KNOWN if _DOWN + name in words)


def _words(path: Path) -> list[str] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return []
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, _LENGTH).decode(errors="replace").split() if is_file else []
    finally:
        os.close(descriptor)
