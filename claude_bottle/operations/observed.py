"""What runs, and what each of it does: the rows of `list --json`, `list --watch` and the dashboard.

Invariant: a row of `operations.agents.active` never vanishes here. What more could not be learnt of it in
time is "unknown" or None, and whatever was slow or broken is a warning.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial

from claude_bottle.backend import enumerate_active_agents, known_backend_names, load_backend, look_at_agents
from claude_bottle.backend.base import ActiveAgent, BottleBackend, Look, Watching
from claude_bottle.backend.fleet import warning_row
from claude_bottle.errors import BottleError
from claude_bottle.operations.agents import ACTIVE, NOBODY, Listing, Row, Value, warning_of
from claude_bottle.operations.status import Status, judge
from claude_bottle.policy.proposals import Queue
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths, Home, list_slugs
from claude_bottle.state.traces import Kept

SECONDS = 3.0  # for the list, and again for what each agent does
_NOT_RECORDED: tuple[tuple[str, Value], ...] = tuple(
    (name, None) for name in ("bottle", "workspace", "origin", "branch")
)


def observed(home: Home, seconds: float = SECONDS, backends: Collection[str] | None = None) -> Listing:
    """Everything that runs, or that these backends run, in the order of its start."""
    if not list_slugs(home):
        return [], []
    agents = enumerate_active_agents(home.state, seconds, backends)
    looks, faults = look_at_agents(_by_backend(agents), home.state, seconds)
    warnings = [text for agent in agents if (text := warning_of(agent))]
    made = _Rows(home)
    rows = [made.row(agent, looks.get(agent.slug)) for agent in agents]
    return rows, warnings + faults + made.faults


def joined(listings: Iterable[Listing]) -> Listing:
    """Of several backends, in the order of its start."""
    everything = list(listings)
    rows = [row for rows, _ in everything for row in rows]
    return sorted(rows, key=_start), [text for _, warnings in everything for text in warnings]


def _start(row: Row) -> tuple[float, str]:
    values = row.as_dict()
    at = values["started_at"]
    return at if isinstance(at, float | int) else 0.0, str(values["slug"])


def _by_backend(agents: Iterable[ActiveAgent]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for agent in agents:
        if agent.slug != NOBODY:
            found.setdefault(agent.backend_name, []).append(agent.slug)
    return found


class Observer:
    """For who looks every second: what has not changed is not read again, one backend waits for no other, and
    one that does not come back is asked no second time meanwhile. `memory` may be None for all.
    """

    def __init__(
        self, home: Home, load: Callable[[str], BottleBackend] = load_backend, names: Iterable[str] = ()
    ) -> None:
        known = tuple(names) or known_backend_names()
        self._eyes = {name: _Eye(home, name, load) for name in known}

    @property
    def backends(self) -> tuple[str, ...]:
        return tuple(self._eyes)

    def look(self, backend: str, seconds: float = SECONDS) -> Listing:
        """What this backend runs. Each backend has one thread that asks. Never raises."""
        return self._eyes[backend].look(seconds)


class _Found:
    """What one look has brought so far."""

    def __init__(self) -> None:
        self.agents: list[ActiveAgent] | None = None
        self.looks: dict[str, Look] = {}
        self.fault = ""
        self.over = threading.Event()


class _Eye:
    """One backend. Its look is a thread, left behind where it does not come back in time; it is a daemon."""

    def __init__(self, home: Home, name: str, load: Callable[[str], BottleBackend]) -> None:
        self._home, self._name, self._load = home, name, load
        self._watching: Watching | None = None
        self._found: _Found | None = None  # of a look that goes on
        self._rows = _Rows(home)
        self._slugs: Kept[list[str]] = Kept()

    def look(self, seconds: float) -> Listing:
        found = self._found or self._begun()
        self._found = None if found.over.wait(seconds) else found
        fault = found.fault if self._found is None else f"no answer within {seconds:g} s"
        if found.agents is None:
            agents, faults = [warning_row(self._name, fault)], []
        else:
            agents = sorted(found.agents, key=lambda agent: (agent.started_at, agent.slug))
            faults = [f"{self._name}: {fault}"] if fault else []
        warnings = [text for agent in agents if (text := warning_of(agent))]
        self._rows.turn(agents)
        rows = [self._rows.row(agent, found.looks.get(agent.slug)) for agent in agents]
        return rows, warnings + faults + self._rows.faults

    def _begun(self) -> _Found:
        found = _Found()
        threading.Thread(target=self._observe, args=(found,), name=self._name, daemon=True).start()
        return found

    def _observe(self, found: _Found) -> None:
        try:
            if self._any_state():
                watching = self._watching or self._load(self._name).watch(self._home.state)
                self._watching = watching
                agents = watching.active()
                found.agents = agents
                for slug, seen in watching.look([agent.slug for agent in agents]):
                    found.looks[slug] = seen
            else:
                found.agents = []
        except BottleError as error:
            found.fault = error.message
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one backend must not hide the others
            found.fault = f"{type(error).__name__}: {error}"
        finally:
            if found.fault:
                self._watching = None  # the next look begins with nothing
            found.over.set()

    def _any_state(self) -> bool:
        """Without a state folder nothing can run. Raises BottleError."""
        return bool(self._slugs.get(str(self._home.state), partial(list_slugs, self._home)))


class _Rows:
    """Makes the rows. What was read of files is kept for the next row of the same agent."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.faults: list[str] = []  # of the rows since the last turn
        self._metadata: Kept[Metadata | store.Broken] = Kept()
        self._queues: Kept[Queue] = Kept()
        self._backends: dict[str, BottleBackend] = {}
        self._paths: dict[str, tuple[BottlePaths, str, str]] = {}  # the files of metadata and proposals
        self._judged: dict[str, tuple[tuple[Look | None, tuple[str, ...], tuple[str, ...]], Status]] = {}

    def turn(self, agents: Iterable[ActiveAgent]) -> None:
        """Forgets what is not of these, or was not asked for since the last turn."""
        self.faults = []
        self._metadata.turn()
        self._queues.turn()
        slugs = {agent.slug for agent in agents}
        self._judged = {slug: known for slug, known in self._judged.items() if slug in slugs}
        self._paths = {slug: known for slug, known in self._paths.items() if slug in slugs}

    def row(self, agent: ActiveAgent, look: Look | None) -> Row:
        status = self._status(agent, look)
        values: tuple[tuple[str, Value], ...] = (
            ("backend", agent.backend_name),
            ("slug", agent.slug),
            ("agent", agent.agent_name),
            ("services", agent.services),
            ("started_at", agent.started_at),
            *self._recorded(agent.slug),
            ("status", status.status),
            ("waiting_for", status.waiting_for),
            ("since", status.since),
            ("down", status.down),
            ("memory", status.memory),
            ("approvals", self._approvals(agent)),
        )
        return Row(values, ACTIVE)

    def _backend(self, name: str) -> BottleBackend:
        if name not in self._backends:
            self._backends[name] = load_backend(name)
        return self._backends[name]

    def _places(self, slug: str) -> tuple[BottlePaths, str, str]:
        if slug not in self._paths:
            paths = self._home.bottle(slug)
            self._paths[slug] = paths, str(paths.metadata), str(paths.proposals)
        return self._paths[slug]

    def _status(self, agent: ActiveAgent, look: Look | None) -> Status:
        if agent.slug == NOBODY:
            return Status("unknown")
        expected = tuple(dict.fromkeys((*self._backend(agent.backend_name).services, *agent.down)))
        seen = look, agent.services, expected
        known = self._judged.get(agent.slug)
        if known is None or known[0] != seen:
            known = seen, judge(*seen)
            self._judged[agent.slug] = known
        return known[1]

    def _approvals(self, agent: ActiveAgent) -> int | None:
        """How many proposals wait, by the file of the bottle's sidecars; None where that is not at hand, and
        where it cannot be read, which is a fault."""
        if agent.slug == NOBODY:
            return None
        paths, _, file = self._places(agent.slug)
        if not self._backend(agent.backend_name).logs_at_hand(paths):
            return None
        try:
            return len(self._queues.get(file, partial(read_queue, file)).pending)
        except BottleError as error:
            self.faults.append(f"{agent.slug}: {error.message}")
            return None

    def _recorded(self, slug: str) -> tuple[tuple[str, Value], ...]:
        """What its metadata says, where that can be read."""
        if slug == NOBODY:
            return _NOT_RECORDED
        file = self._places(slug)[1]
        found = self._metadata.get(file, partial(store.read, self._home, slug))
        if isinstance(found, store.Broken):
            return _NOT_RECORDED
        return (
            ("bottle", found.bottle),
            ("workspace", found.workspace),
            ("origin", found.origin),
            ("branch", found.branch or None),
        )
