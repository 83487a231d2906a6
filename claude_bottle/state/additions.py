"""What was added to a bottle's file system since its first start, and a rebuild that is under way.

Invariant: `additions.json` names only what the bottle was proved with. `rebuild.json` is there from before
the old bottle is ended until another one, with or without the additions, was proved: whoever finds it knows
that a rebuild did not come to its end.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.policy.additions import Additions, additions_from_json, additions_to_json
from claude_bottle.state.paths import BottlePaths
from claude_bottle.state.store import write_atomically

_SCHEMA, _MAX_BYTES = 1, 1 << 20


class Rebuild(NamedTuple):
    """`decision` is the word of the approval in the audit log."""

    decision: str
    wanted: Additions


def load(paths: BottlePaths) -> Additions:
    """Raises BottleError: a bottle must not come back as another one because nobody can read this."""
    found = _read(paths.additions)
    if found is None:
        return Additions()
    try:
        return additions_from_json(found["additions"])
    except (KeyError, ValueError) as error:
        raise _broken(paths.additions, error) from error


def save(paths: BottlePaths, found: Additions) -> None:
    """Raises OSError."""
    if found:
        _write(paths.additions, {"additions": additions_to_json(found)})
    else:
        _remove(paths.additions)


def begin(paths: BottlePaths, rebuild: Rebuild) -> None:
    """Raises OSError."""
    wanted = additions_to_json(rebuild.wanted)
    _write(paths.rebuild, {"decision": rebuild.decision, "wanted": wanted})


def under_way(paths: BottlePaths) -> Rebuild | None:
    """One that was begun and has not ended. Raises BottleError."""
    found = _read(paths.rebuild)
    if found is None:
        return None
    try:
        return Rebuild(str(found["decision"])[:64], additions_from_json(found["wanted"]))
    except (KeyError, ValueError) as error:
        raise _broken(paths.rebuild, error) from error


def end(paths: BottlePaths) -> None:
    """Raises OSError."""
    _remove(paths.rebuild)


def _write(path: Path, obj: dict[str, object]) -> None:
    write_atomically(path, json.dumps({"schema": _SCHEMA, **obj}, indent=1) + "\n")


def _read(path: Path) -> dict[str, object] | None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, error) from error
    if not isinstance(found, dict) or found.get("schema") != _SCHEMA:
        raise _broken(path, ValueError("not of this version"))
    return found


def _broken(path: Path, error: Exception) -> BottleError:
    return BottleError(
        f"{path} cannot be read: {error}", "look at it; without it the bottle starts as its manifest says"
    )


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
