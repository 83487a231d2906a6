"""Which bottles of this backend run: those whose run directory's lock is held."""

from __future__ import annotations

from pathlib import Path

from claude_bottle.backend.base import ActiveAgent
from claude_bottle.backend.bubblewrap.lock import ENTRY, lock_holder
from claude_bottle.sidecars.services import SERVICES_FILE, services_down, services_up
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, list_slugs
from claude_bottle.state.store import Broken, read

NAME = "bubblewrap"


def active_agents(state: Path) -> list[ActiveAgent]:
    """A folder that cannot be read but whose lock is held is a row with a warning."""
    home = Home(state.parent)
    rows = []
    for slug in list_slugs(home):
        run = home.bottle(slug).run
        if lock_holder(str(run)) == 0:
            continue
        found = read(home, slug)
        ready = (run / ENTRY).exists()
        up = (services_up(run / SERVICES_FILE) or ()) if ready else ()
        down = services_down(run / SERVICES_FILE) if ready else ()
        rows += row_of(slug, found, up, down)
    return rows


def row_of(
    slug: str, found: Metadata | Broken, up: tuple[str, ...], down: tuple[str, ...]
) -> list[ActiveAgent]:
    """Of a bottle whose lock is held; none where it is another backend's."""
    if isinstance(found, Broken):
        return [ActiveAgent(NAME, slug, "-", 0.0, up, warning=found.reason)]
    return (
        [ActiveAgent(NAME, slug, found.agent, found.created, up, down=down)] if found.backend == NAME else []
    )
