"""What every operation needs of the world, handed in rather than looked up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.state.paths import Home

if TYPE_CHECKING:
    from claude_bottle.proc import Runner


class Context(NamedTuple):
    """`environment` is the operator's; nothing of it enters a bottle unless the manifest says so."""

    home: Home
    runner: Runner
    environment: Mapping[str, str]
    folder: Path  # where the command was started


def system_context() -> Context:
    """The real world. Makes the state folders."""
    from claude_bottle.state.paths import open_home

    context = reading_context()
    open_home(context.home)
    return context


def reading_context() -> Context:
    """The real world, for commands that only look: nothing is made."""
    import os

    from claude_bottle.proc import SystemRunner
    from claude_bottle.state.paths import home_from

    return Context(home_from(os.environ), SystemRunner(), os.environ, working_folder())


def working_folder() -> Path:
    """Raises BottleError where it was removed meanwhile."""
    from claude_bottle.errors import BottleError

    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise BottleError("the folder that you are in is gone", "cd to another one") from error
