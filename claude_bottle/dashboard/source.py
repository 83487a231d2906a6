"""The service layer as the dashboard asks it: what runs, what is asked, and what an operator wants to read.

Invariant: nothing here changes anything, but for an agent's work, which `diff` takes over as `pull` does. All
of it may block, and is called from threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from claude_bottle.backend import get_bottle_backend, known_backend_names, load_backend
from claude_bottle.backend.base import Readiness
from claude_bottle.dashboard.looking import Counted
from claude_bottle.dashboard.world import Agent
from claude_bottle.errors import BottleError
from claude_bottle.operations.agents import NOBODY, Row, Value
from claude_bottle.operations.context import Context
from claude_bottle.operations.proposals import Listing, Waiting

_LOG_LINES = 5000


class Declared(NamedTuple):
    """An agent of the manifest."""

    name: str
    description: str


class Kept(NamedTuple):
    """A bottle that has ended, and whose state is preserved."""

    slug: str
    agent: str
    why: str


class Brief(NamedTuple):
    """What an operator must know to answer; `lines` are labels and texts."""

    lines: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


class Services:
    """The real world."""

    def __init__(self, context: Context) -> None:
        from claude_bottle.operations.asking import Asking
        from claude_bottle.operations.counting import Counting
        from claude_bottle.operations.observed import Observer

        self._context = context
        self.environment = context.environment
        self._observer = Observer(context.home)
        self._asking = Asking(context)
        self._counting = Counting(context)

    @property
    def backends(self) -> Sequence[str]:
        return known_backend_names()

    def agents(self, backend: str) -> tuple[Sequence[Agent], Sequence[str]]:
        rows, warnings = self._observer.look(backend)
        return [agent_of(row) for row in rows if row.as_dict()["slug"] != NOBODY], warnings

    def proposals(self, agents: Sequence[Agent]) -> Listing:
        return self._asking.look((agent.slug, agent.name, agent.backend) for agent in agents)

    def count(self, agents: Sequence[Agent]) -> Counted:
        return Counted(self._counting.look({agent.slug: agent.status for agent in agents}))

    def declared(self) -> tuple[list[Declared], list[str]]:
        """The manifest's agents, and its warnings. Raises ManifestError."""
        from claude_bottle.operations.agents import declared

        rows, warnings = declared(self._context.home, self._context.folder, "agents")
        found = [row.as_dict() for row in rows]
        return [Declared(str(each["agent"]), str(each["description"] or "")) for each in found], warnings

    def readiness(self) -> list[tuple[str, Readiness]]:
        """Each backend, and whether bottles can be made by it here; the one that is taken by itself first."""
        default = ""
        with suppress(BottleError):  # none works here, or what was chosen does not: then none is first
            default = get_bottle_backend(None, self.environment).name
        names = sorted(known_backend_names(), key=lambda name: name != default)
        return [(name, load_backend(name).check()) for name in names]

    def preserved(self) -> tuple[list[Kept], list[str]]:
        from claude_bottle.operations.agents import preserved

        rows, warnings = preserved(self._context.home)
        found = [row.as_dict() for row in rows]
        return [
            Kept(str(each["slug"]), str(each["agent"]), str(each.get("why") or "")) for each in found
        ], warnings

    def brief(self, waiting: Waiting) -> Brief:
        from claude_bottle.operations.briefing import as_lines, brief

        found = brief(self._context, waiting)
        return Brief(tuple(as_lines(found)), found.problems)

    def diff(self, slug: str) -> str:
        """What an agent has changed since it began. Empty where it is nothing."""
        from claude_bottle.operations.handover import difference
        from claude_bottle.operations.work import pull

        metadata, work = pull(self._context, slug, lambda name, milliseconds: None)
        lacks = f"{work.lacks}\n" if work.lacks else ""
        if not work.refs:
            return lacks
        return lacks + difference(self._context.runner, metadata, work).decode(errors="replace")

    def log(self, slug: str) -> Iterator[str]:
        """What its sidecars decided, then what was said: the last lines of each."""
        from claude_bottle.operations.decisions import describe, read
        from claude_bottle.operations.logs import log_path, read_lines, sessions
        from claude_bottle.operations.transcript import as_lines, entries

        yield "=== decisions"
        yield from deque(map(describe, read(log_path(self._context, slug, "decisions"))), maxlen=_LOG_LINES)
        yield "=== transcript"
        found, problems = sessions(self._context, slug)
        yield from problems
        for session in found:
            lines = (line for entry in entries(read_lines(session.path)) for line in as_lines(entry))
            yield from deque(lines, maxlen=_LOG_LINES)


def agent_of(row: Row) -> Agent:
    """As the table shows it. Nothing that is not there is made up."""
    values = row.as_dict()
    return Agent(
        backend=str(values["backend"]),
        slug=str(values["slug"]),
        name=str(values["agent"]),
        started=_number(values["started_at"]),
        services=_words(values["services"]),
        down=_words(values.get("down")),
        status=str(values["status"]),
        waiting_for=str(values["waiting_for"] or ""),
        branch=str(values["branch"] or ""),
        approvals=_count(values["approvals"]),
    )


def _words(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _count(value: Value) -> int | None:
    return int(value) if isinstance(value, int | float) else None
