"""Taking away what the engine holds of a bottle. What is gone already is fine."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from claude_bottle.backend.beside import Beside
from claude_bottle.backend.docker.api import EngineError, parsed
from claude_bottle.errors import BottleError
from claude_bottle.text import shown

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

_GONE, _IN_PROGRESS = 404, "is already in progress"


def remove_containers(engine: Engine, names: Iterable[str]) -> None:
    """At once, with their unnamed volumes. Raises BottleError."""
    for removal in [Beside(partial(_container, engine, name)) for name in names]:
        removal.wait()


def _container(engine: Engine, name: str) -> None:
    try:
        engine.ask("DELETE", f"/containers/{name}", query={"force": "1", "v": "1"})
    except EngineError as error:
        if error.status == _GONE:
            return
        if _IN_PROGRESS not in error.message:
            raise BottleError(f"the container {name} cannot be removed: {error.message}") from error
        _await_end(engine, name)


def _await_end(engine: Engine, name: str) -> None:
    """Somebody else removes it just now; that they failed is told in an answer that is no refusal."""
    try:
        ended = parsed(engine.ask("POST", f"/containers/{name}/wait", query={"condition": "removed"}))
        if not isinstance(ended, dict):
            raise EngineError("the engine answers in a form that is not known")
        if ended.get("Error"):
            raise EngineError(shown(ended["Error"]))
    except EngineError as error:
        if error.status != _GONE:
            raise BottleError(f"the container {name} is not removed: {error.message}") from error


def remove_volumes(engine: Engine, names: Iterable[str]) -> None:
    """Raises BottleError."""
    for name in names:
        try:
            engine.ask("DELETE", f"/volumes/{name}", query={"force": "1"})
        except EngineError as error:
            if error.status != _GONE:
                raise BottleError(f"the volume {name} cannot be removed: {error.message}") from error
