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
SERVICES = ("egress", "firewall")
_LENGTH = 64


class Record:
    """The bundle's end of it."""

    def __init__(self, path: str) -> None:
        """Raises OSError where there can be no new file of this name."""
        Path(path).unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)

    def write(self, up: Iterable[str]) -> None:
        os.pwrite(self._file, " ".join(up).ljust(_LENGTH - 1).encode() + b"\n", 0)


def services_up(path: Path) -> tuple[str, ...] | None:
    """None where nobody keeps such a record."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return ()
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        words = os.read(descriptor, _LENGTH).decode(errors="replace").split() if is_file else []
    finally:
        os.close(descriptor)
    return tuple(name for name in SERVICES if name in words)
