"""Whole folder trees that a bottle has written: however deep, closed or odd, taken over and removed.

Invariant: no link is followed, and nothing here recurses. A tree may be deeper than Python's stack and longer
than a path can be; the system's own tools walk it by descriptors (fts(3)).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from claude_bottle.proc import Command, SystemRunner, checked

_SECONDS = 3600.0


def remove_trees(paths: Iterable[Path]) -> None:
    """Also those whose folders forbid it. Raises BottleError where something is left."""
    names = [str(path) for path in paths]
    if not names:
        return
    runner = SystemRunner()
    removing = Command(("rm", "-rf", "--", *names), timeout=_SECONDS)
    if runner.run(removing).status == 0:
        return
    folders = [name for name in names if os.path.isdir(name) and not os.path.islink(name)]
    runner.run(Command(("chmod", "-R", "u+rwX", "--", *folders), timeout=_SECONDS))
    checked(runner, removing, "a bottle's files cannot be removed")


def give_trees(paths: Iterable[str], uid: int) -> None:
    """Makes everything there the user's own. Raises BottleError."""
    names = tuple(paths)
    if names:
        command = Command(("chown", "-hR", f"{uid}:{uid}", "--", *names), timeout=_SECONDS)
        checked(SystemRunner(), command, "a bottle's files cannot be given to its user")
