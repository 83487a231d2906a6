"""What runs, and what each of it does: the rows of `list --json` and `list --watch`.

Invariant: a row of `operations.agents.active` never vanishes here. What more could not be learnt of it in
time is "unknown" or None, and whatever was slow or broken is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from claude_bottle.backend import enumerate_active_agents, load_backend, look_at_agents
from claude_bottle.backend.base import ActiveAgent, Look
from claude_bottle.errors import BottleError
from claude_bottle.operations.agents import ACTIVE, NOBODY, Listing, Row, Value, warning_of
from claude_bottle.operations.status import Status, judge
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.state import store
from claude_bottle.state.paths import Home, list_slugs

SECONDS = 3.0  # for the list, and again for what each agent does


def observed(home: Home, seconds: float = SECONDS) -> Listing:
    """Everything that runs, in the order of its start."""
    if not list_slugs(home):
        return [], []
    agents = enumerate_active_agents(home.state, seconds)
    looks, faults = look_at_agents(_by_backend(agents), home.state, seconds)
    warnings = [text for agent in agents if (text := warning_of(agent))]
    rows = [_row(home, agent, looks.get(agent.slug), faults) for agent in agents]
    return rows, warnings + faults


def _by_backend(agents: Iterable[ActiveAgent]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for agent in agents:
        if agent.slug != NOBODY:
            found.setdefault(agent.backend_name, []).append(agent.slug)
    return found


def _row(home: Home, agent: ActiveAgent, look: Look | None, faults: list[str]) -> Row:
    status = Status("unknown")
    if agent.slug != NOBODY:
        expected = dict.fromkeys((*load_backend(agent.backend_name).services, *agent.down))
        status = judge(look, agent.services, expected)
    values: tuple[tuple[str, Value], ...] = (
        ("backend", agent.backend_name),
        ("slug", agent.slug),
        ("agent", agent.agent_name),
        ("services", agent.services),
        ("started_at", agent.started_at),
        *_recorded(home, agent.slug),
        ("status", status.status),
        ("waiting_for", status.waiting_for),
        ("since", status.since),
        ("down", status.down),
        ("memory", status.memory),
        ("approvals", _approvals(home, agent, faults)),
    )
    return Row(values, ACTIVE)


def _approvals(home: Home, agent: ActiveAgent, faults: list[str]) -> int | None:
    """How many proposals wait, by the file of the bottle's sidecars; None where that is not at hand, and
    where it cannot be read, which is a fault."""
    if agent.slug == NOBODY:
        return None
    paths = home.bottle(agent.slug)
    if not load_backend(agent.backend_name).logs_at_hand(paths):
        return None
    try:
        return len(read_queue(str(paths.proposals)).pending)
    except BottleError as error:
        faults.append(f"{agent.slug}: {error.message}")
        return None


def _recorded(home: Home, slug: str) -> tuple[tuple[str, Value], ...]:
    """What its metadata says, where that can be read."""
    found = store.read(home, slug) if slug != NOBODY else None
    if found is None or isinstance(found, store.Broken):
        return (("bottle", None), ("workspace", None), ("origin", None), ("branch", None))
    return (
        ("bottle", found.bottle),
        ("workspace", found.workspace),
        ("origin", found.origin),
        ("branch", found.branch or None),
    )
