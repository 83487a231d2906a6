"""Why a bottle's state was preserved, and since when: a small file beside the metadata.

Invariant: it is there only where a bottle was ended and its state kept. A bottle that does not run and has no
such marker was never settled: it crashed, or nobody has looked at it yet.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.state.paths import BottlePaths
from claude_bottle.state.store import write_atomically

_SCHEMA, _MAX_BYTES, _MAX_TEXT = 1, 1 << 16, 500


class Preserved(NamedTuple):
    why: str  # "stopped", "claude ended with status 1", "it crashed"
    since: float  # seconds after the epoch


def mark(paths: BottlePaths, why: str, since: float | None = None) -> None:
    """`since` is now where nothing else is said. Raises OSError."""
    obj = {"schema": _SCHEMA, "why": why[:_MAX_TEXT], "since": time.time() if since is None else since}
    write_atomically(paths.marker, json.dumps(obj) + "\n")


def read(paths: BottlePaths) -> Preserved | None:
    """None where there is none. One that cannot be read is one of which nothing more is known."""
    try:
        with open(paths.marker, encoding="utf-8", errors="replace") as file:
            obj = json.loads(file.read(_MAX_BYTES))
        return Preserved(str(obj["why"])[:_MAX_TEXT], float(obj["since"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Preserved("its marker cannot be read", 0.0)


def clear(paths: BottlePaths) -> None:
    """The bottle runs again. Raises OSError."""
    with suppress(FileNotFoundError):
        paths.marker.unlink()
