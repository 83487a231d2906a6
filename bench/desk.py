"""A dashboard on a fixture of 200 agents and 100 proposals, as a program: what `bench.dashboard` measures.

argv: `refresh` or `idle`: what that costs, on a terminal of Textual's own: milliseconds of CPU for each
refresh, and the share of a core in percent. `show` is the dashboard itself, on this terminal.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from claude_bottle.backend.base import Readiness
from claude_bottle.dashboard.app import Dashboard
from claude_bottle.dashboard.looking import Counted
from claude_bottle.dashboard.world import Agent
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing, Waiting
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import EGRESS, Asked, Proposal

AGENTS, PROPOSALS, CHANGING = 200, 100, 10
LAST = f"a{AGENTS - 1:04}"  # seen once `G` is pressed
_NOON = 1_770_033_600.0
_SERVICES = ("egress", "firewall", "supervise")
_ROUNDS, _SECONDS = 40, 6.0


class Fixture:
    """See `dashboard.looking.Source`. Each look makes its data anew, as the real one does."""

    environment: dict[str, str] = {}  # noqa: RUF012 - of no instance
    backends = ("docker", "bubblewrap")

    def __init__(self) -> None:
        self.turn = 0

    def agents(self, backend: str) -> tuple[Sequence[Agent], Sequence[str]]:
        at = self.backends.index(backend)
        return [_agent(number, backend, self.turn) for number in range(at, AGENTS, 2)], ()

    def proposals(self, agents: Sequence[Agent]) -> Listing:
        return Listing(tuple(_waiting(number, agents) for number in range(PROPOSALS) if agents), ())

    def count(self, agents: Sequence[Agent]) -> Counted:
        return Counted({agent.slug: Numbers(12_345, 12, 3) for agent in agents})

    def readiness(self) -> list[tuple[str, Readiness]]:
        return []

    def log(self, slug: str) -> Iterator[str]:
        yield slug


def _agent(number: int, backend: str, turn: int) -> Agent:
    status = "working" if turn % 2 and number < CHANGING else "idle"
    slug = f"reviewer-a{number:04}"
    return Agent(backend, slug, "reviewer", _NOON + number, _SERVICES, (), status, "", "main", 1)


def _waiting(number: int, agents: Sequence[Agent]) -> Waiting:
    agent = agents[number % len(agents)]
    asked = Asked(EGRESS, "to read how the parser works", Route(f"docs{number}.example.org"))
    return Waiting(agent.slug, agent.name, agent.backend, Proposal(f"p-{number:010x}", asked, _NOON))


def _app(fixture: Fixture, every: float = 1.0) -> Dashboard:
    source: Any = fixture
    return Dashboard(source, None, Path("/"), every=every)


async def refresh() -> list[float]:
    """From news to a drawn screen, with nothing else that runs."""
    fixture = Fixture()
    app, found = _app(fixture, every=600.0), []
    async with app.run_test(size=(100, 30)) as pilot:
        while not (len(app.world.agents) == AGENTS and app.world.proposals):
            app._looking.nudge()  # noqa: SLF001 - as a flow does at its end
            await pilot.pause(0.05)
        for turn in range(_ROUNDS):
            fixture.turn = turn + 1
            began = time.process_time()
            app._looking.nudge()  # noqa: SLF001 - as a flow does at its end
            await asyncio.sleep(0.3)
            found.append((time.process_time() - began) * 1000)
    return found[2:]


async def idle() -> list[float]:
    """With the threads that look, each second, and find nothing new."""
    app = _app(Fixture())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause(2.0)
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(_SECONDS)
        return [(time.process_time() - cpu) / (time.monotonic() - began) * 100]


def show() -> None:
    _app(Fixture()).run()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run({"refresh": refresh, "idle": idle}[sys.argv[1]]())) + "\n")
