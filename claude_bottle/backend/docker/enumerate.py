"""Which bottles the engine runs: one labelled query for all of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import ActiveAgent
from claude_bottle.backend.docker.argv import LABEL
from claude_bottle.backend.docker.engine import docker
from claude_bottle.errors import BottleError
from claude_bottle.proc import Command, Runner
from claude_bottle.state.paths import Home, is_slug
from claude_bottle.state.store import Broken, read, read_all

NAME = "docker"
_NAME = re.compile("[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)  # as the engine gives it
_SERVICES = ("egress", "firewall")
_FORMAT = (
    "\t".join(f'{{{{.Label "{LABEL}.{key}"}}}}' for key in ("slug", "role")) + "\t{{.State}}\t{{.Names}}"
)


class Container(NamedTuple):
    slug: str
    role: str
    state: str
    name: str

    @property
    def runs(self) -> bool:
        return self.state in ("running", "paused", "restarting")


def home_id(root: Path) -> str:
    """Tells the containers of one home of claude-bottle from those of another."""
    return hashlib.sha256(str(root).encode()).hexdigest()[:16]


def query(home: str, slug: str | None = None) -> Command:
    filters = ["--filter", f"label={LABEL}.home={home}"]
    filters += ["--filter", f"label={LABEL}.slug={slug}"] if slug else []
    return docker("ps", "--all", *filters, "--format", _FORMAT, timeout=10)


def parse(text: str) -> tuple[Container, ...]:
    """Raises BottleError for what the engine's client has never said."""
    found = []
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != 4 or not is_slug(fields[0]) or not _NAME.fullmatch(fields[3]):
            raise BottleError("the engine lists containers in a form that is not known")
        found.append(Container(*fields))
    return tuple(found)


def containers(runner: Runner, home: str, slug: str | None = None) -> tuple[Container, ...]:
    """Raises BottleError where the engine does not answer."""
    done = runner.run(query(home, slug))
    if done.status != 0:
        raise BottleError(f"the engine does not answer: {done.complaint}")
    return parse(done.text)


def is_whole(found: Iterable[Container]) -> bool:
    """A bottle without its sidecars ends by itself in a moment, and so do they without it."""
    return {"agent", "sidecars"} <= {item.role for item in found if item.runs}


def active_agents(runner: Runner, state: Path) -> list[ActiveAgent]:
    home = Home(state.parent)
    by_slug: dict[str, list[Container]] = {}
    for item in containers(runner, home_id(home.root)):
        by_slug.setdefault(item.slug, []).append(item)
    return [row for slug, found in by_slug.items() if (row := _row(home, slug, found))]


def has_bottles(state: Path) -> bool:
    """Whether any state folder is of a bottle of this backend, running or not."""
    found = read_all(Home(state.parent))
    return any(not isinstance(item, Broken) and item.backend == NAME for item in found)


def _row(home: Home, slug: str, found: list[Container]) -> ActiveAgent | None:
    if not any(item.runs for item in found):
        return None
    whole = is_whole(found)
    metadata = read(home, slug)
    services = _SERVICES if whole else ()
    if isinstance(metadata, Broken):
        return ActiveAgent(NAME, slug, "-", 0.0, services, warning=metadata.reason)
    warning = "" if whole else "it starts or ends: not all of its containers run"
    return ActiveAgent(NAME, slug, metadata.agent, metadata.created, services, warning)
