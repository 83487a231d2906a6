"""Finding agents: what runs, what is preserved, what the manifest declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.state.paths import Home, list_slugs

if TYPE_CHECKING:
    from pathlib import Path

    from claude_bottle.backend.base import ActiveAgent, Bottle
    from claude_bottle.state.metadata import Metadata
    from claude_bottle.state.store import Broken

Value = str | float | tuple[str, ...] | None  # None: not known, or there is none
NOBODY = "-"  # the slug of a row that tells of a whole backend
ACTIVE = ("backend", "slug", "agent", "services")  # the columns of what runs


class Row(NamedTuple):
    """A line of `list`: every value by name, and the names of those that stand in the text form."""

    values: tuple[tuple[str, Value], ...]
    columns: tuple[str, ...]

    def as_dict(self) -> dict[str, Value]:
        return dict(self.values)

    def fields(self) -> tuple[str, ...]:
        found = self.as_dict()
        return tuple(_as_text(found[name]) for name in self.columns)


Listing = tuple[list[Row], list[str]]  # rows, warnings


def _as_text(value: Value) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def active(home: Home) -> Listing:
    """Everything that runs. Without a state folder nothing can: no backend has to be asked."""
    if not list_slugs(home):
        return [], []
    from claude_bottle.backend import enumerate_active_agents

    rows, warnings = [], []
    for agent in enumerate_active_agents(home.state):
        if text := warning_of(agent):
            warnings.append(text)
        values: tuple[tuple[str, Value], ...] = (
            ("backend", agent.backend_name),
            ("slug", agent.slug),
            ("agent", agent.agent_name),
            ("services", agent.services),
            ("started_at", agent.started_at),
        )
        rows.append(Row(values, ACTIVE))
    return rows, warnings


def warning_of(agent: ActiveAgent) -> str:
    """What is wrong with this row; empty where nothing is."""
    return f"{agent.backend_name} {agent.slug}: {agent.warning}" if agent.warning else ""


def preserved(home: Home) -> Listing:
    """State folders whose bottle does not run, broken ones included; what cannot be asked is a warning."""
    from claude_bottle.backend import enumerate_active_agents
    from claude_bottle.state import store

    running = enumerate_active_agents(home.state) if list_slugs(home) else []
    slugs = {agent.slug for agent in running}
    rows, warnings = [], [warning_of(agent) for agent in running if agent.slug == NOBODY]
    for found in store.read_all(home):
        if found.slug in slugs:
            continue
        if isinstance(found, store.Broken):
            warnings.append(f"{found.slug}: {found.reason}")
        rows.append(_preserved_row(home, found))
    return rows, warnings


def _preserved_row(home: Home, found: Metadata | Broken) -> Row:
    from claude_bottle.state import marker, store

    columns = ("backend", "slug", "agent")
    if isinstance(found, store.Broken):
        return Row((("backend", "-"), ("slug", found.slug), ("agent", "-")), columns)
    kept = marker.read(home.bottle(found.slug))  # none where nobody has looked at its end yet
    values: tuple[tuple[str, Value], ...] = (
        ("backend", found.backend),
        ("slug", found.slug),
        ("agent", found.agent),
        ("bottle", found.bottle),
        ("why", kept.why if kept is not None else None),
        ("since", kept.since if kept is not None else None),
        ("started_at", found.created),
        ("workspace", found.workspace),
        ("origin", found.origin),
        ("branch", found.branch or None),
    )
    return Row(values, columns)


def declared(home: Home, folder: Path, what: str) -> Listing:
    """The manifest's agents or bottles. Raises ManifestError."""
    from claude_bottle.manifest.load import load_manifest

    loaded = load_manifest(home.root, folder)
    if what == "bottles":
        names = [name for name, bottle in loaded.manifest.bottles.items() if not bottle.anonymous]
        return [Row((("bottle", name),), ("bottle",)) for name in sorted(names)], list(loaded.warnings)
    rows = []
    for name, agent in sorted(loaded.manifest.agents.items()):
        values: tuple[tuple[str, Value], ...] = (
            ("agent", name),
            ("bottle", agent.bottle),
            ("description", agent.description or ""),
        )
        rows.append(Row(values, ("agent", "bottle", "description")))
    return rows, list(loaded.warnings)


def running_bottle(home: Home, slug: str) -> Bottle:
    """Raises NotFoundError for an unknown slug, BottleError for one that does not run."""
    from claude_bottle.backend import load_backend
    from claude_bottle.state import store

    metadata = store.load(home, slug)
    bottle = load_backend(metadata.backend).find(metadata, home.bottle(slug))
    if bottle is None:
        raise BottleError(f"{slug} is not running", f"its work: claude-bottle pull {slug}")
    return bottle
