"""Which bottles the engine runs: one labelled query for all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_bottle.backend.base import ActiveAgent
from claude_bottle.backend.docker.api import parsed
from claude_bottle.backend.docker.bodies import LABEL
from claude_bottle.errors import BottleError
from claude_bottle.sidecars.services import SERVICES, SERVICES_FILE, services_down, services_up
from claude_bottle.state.identity import identity
from claude_bottle.state.paths import Home, is_slug
from claude_bottle.state.store import Broken, read, read_all

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

NAME = "docker"
_NAME = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)  # as the engine gives it
_SECONDS = 10.0


class Container(NamedTuple):
    slug: str
    role: str
    state: str
    name: str
    identity: str = ""  # by which the kernel's control groups know it

    @property
    def runs(self) -> bool:
        return self.state in ("running", "paused", "restarting")


def containers(engine: Engine, home: str, slug: str | None = None) -> tuple[Container, ...]:
    """One question for all of them. Raises EngineError where the engine does not answer."""
    labels = [f"{LABEL}.home={home}", *([f"{LABEL}.slug={slug}"] if slug else [])]
    query = {"all": "1", "filters": {"label": labels}}
    return parse(parsed(engine.ask("GET", "/containers/json", query=query, timeout=_SECONDS)))


def parse(listed: Any) -> tuple[Container, ...]:
    """Raises BottleError for what no engine says."""
    try:
        return tuple(_container(item, item["Labels"], item["State"], item["Names"]) for item in listed)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BottleError("the engine lists containers in a form that is not known") from error


def _container(item: dict[str, Any], labels: dict[str, str], state: str, names: list[str]) -> Container:
    slug, role = labels[f"{LABEL}.slug"], labels[f"{LABEL}.role"]
    own = [name for name in names if name.count("/") == 1]  # others are what linked containers call it
    name = "".join(own).removeprefix("/")
    if len(own) != 1 or not is_slug(slug) or not _NAME.fullmatch(name) or not isinstance(state, str):
        raise ValueError(name)
    return Container(slug, str(role), state, name, str(item.get("Id", "")))


def is_whole(found: Iterable[Container]) -> bool:
    """A bottle without its sidecars ends by itself in a moment, and so do they without it."""
    return {"agent", "sidecars"} <= {item.role for item in found if item.runs}


def active_agents(engine: Engine, state: Path) -> list[ActiveAgent]:
    home = Home(state.parent)
    by_slug: dict[str, list[Container]] = {}
    for item in containers(engine, identity(home.root)):
        by_slug.setdefault(item.slug, []).append(item)
    return [row for slug, found in by_slug.items() if (row := _row(home, slug, found))]


def has_bottles(state: Path, but: str = "") -> bool:
    """Whether any state folder, `but` this one, is of a bottle of this backend, running or not."""
    found = (item for item in read_all(Home(state.parent)) if item.slug != but)
    return any(not isinstance(item, Broken) and item.backend == NAME for item in found)


def _row(home: Home, slug: str, found: list[Container]) -> ActiveAgent | None:
    if not any(item.runs for item in found):
        return None
    whole = is_whole(found)
    metadata = read(home, slug)
    services = _services(home, slug) if whole else ()
    if isinstance(metadata, Broken):
        return ActiveAgent(NAME, slug, "-", 0.0, services, warning=metadata.reason)
    warning = "" if whole else "it starts or ends: not all of its containers run"
    down = services_down(home.bottle(slug).run / "egress" / SERVICES_FILE) if whole else ()
    return ActiveAgent(NAME, slug, metadata.agent, metadata.created, services, warning, down)


def _services(home: Home, slug: str) -> tuple[str, ...]:
    """As the bundle says; where its folder is not on this host, that its container runs must do."""
    up = services_up(home.bottle(slug).run / "egress" / SERVICES_FILE)
    return SERVICES if up is None else up
