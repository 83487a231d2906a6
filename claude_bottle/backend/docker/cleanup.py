"""What bottles leave at the engine when their end was no end in order, and how it goes.

Rule: a container belongs to a bottle that runs, or it goes; a volume belongs to a state folder, or it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from claude_bottle.backend.base import Remain
from claude_bottle.backend.docker.api import parsed
from claude_bottle.backend.docker.bodies import LABEL
from claude_bottle.backend.docker.enumerate import Container, containers, is_whole
from claude_bottle.backend.docker.remove import remove_containers, remove_volumes
from claude_bottle.errors import BottleError
from claude_bottle.state.paths import is_slug

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

_SECONDS = 10.0


def observe_remains(engine: Engine, home: str, known: frozenset[str]) -> list[Remain]:
    """`known` are the slugs that have a state folder. Raises BottleError."""
    return judge(containers(engine, home), _volumes(engine, home), known)


def judge(
    found: Sequence[Container], volumes: Sequence[tuple[str, str]], known: frozenset[str]
) -> list[Remain]:
    """Pure. `volumes` are (name, slug)."""
    remains = []
    for item in found:
        whole = is_whole(other for other in found if other.slug == item.slug)
        if item.slug not in known:
            remains.append(Remain("container", item.name, item.slug, "its bottle has no state"))
        elif not whole:
            remains.append(Remain("container", item.name, item.slug, "its bottle does not run"))
    for name, slug in volumes:
        if slug not in known:
            remains.append(Remain("volume", name, slug, "its bottle has no state"))
    return remains


def _volumes(engine: Engine, home: str) -> list[tuple[str, str]]:
    query = {"filters": {"label": [f"{LABEL}.home={home}"]}}
    try:
        listed = parsed(engine.ask("GET", "/volumes", query=query, timeout=_SECONDS))["Volumes"] or []
        found = [(item["Name"], item["Labels"][f"{LABEL}.slug"]) for item in listed]
        if not all(is_slug(slug) and name.startswith(f"claude-bottle-{slug}") for name, slug in found):
            raise ValueError(found)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BottleError("the engine lists volumes in a form that is not known") from error
    return found


def remove_remains(engine: Engine, remains: Sequence[Remain]) -> None:
    """Containers first: they hold the volumes. Raises BottleError."""
    remove_containers(engine, [item.name for item in remains if item.kind == "container"])
    remove_volumes(engine, [item.name for item in remains if item.kind == "volume"])
