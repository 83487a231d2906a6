"""docs/dashboard.svg, a picture of the dashboard: the real one, over a world that is written down here.

Invariant: the same bytes whenever and wherever it is made. No time of day, no name that is made up at random
and nothing of the environment is in it, and no address from which a viewer would fetch a font.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from claude_bottle.dashboard.looking import Counted
from claude_bottle.dashboard.source import Services
from claude_bottle.dashboard.world import Agent
from claude_bottle.operations import status
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing, Waiting
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import EGRESS, Asked, Proposal

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "dashboard.svg"
_SIZE = (100, 30)
_WAIT_SECONDS = 30.0
_FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
_ALL = ("egress", "firewall", "supervise")
_NUMBERS = {
    "docs-writer-k3p9d": Numbers(212_480, 148, 37),
    "reviewer-7xq2m": Numbers(48_120, 0, 0),
    "tester-w04ze": Numbers(9_460, 12, 3),
}


def on_the_clock(hour: int, minute: int, second: int) -> float:
    """A moment that shows as this, whatever the time zone is."""
    return time.mktime((2026, 2, 2, hour, minute, second, 0, 0, -1))


def agents() -> list[Agent]:
    return [
        Agent(
            *("docker", "docs-writer-k3p9d", "docs-writer", on_the_clock(9, 12, 40), _ALL),
            status=status.WORKING,
            branch="main",
            approvals=1,
        ),
        Agent(
            *("bubblewrap", "reviewer-7xq2m", "reviewer", on_the_clock(9, 31, 5), _ALL),
            status=status.WAITING,
            waiting_for="permission prompt",
            branch="main",
            approvals=0,
        ),
        Agent(
            *("docker", "tester-w04ze", "tester", on_the_clock(9, 47, 18), ("egress", "supervise")),
            down=("firewall",),
            status=status.DEGRADED,
            branch="fix",
            approvals=0,
        ),
    ]


def proposal() -> Waiting:
    route = Route("docs.python.org", methods=("GET",), paths=("/3/",))
    asked = Asked(EGRESS, "the reference of asyncio, to be linked to", route)
    return Waiting(
        "docs-writer-k3p9d", "docs-writer", "docker", Proposal("p-5b1e0c7d42", asked, time.time() - 270)
    )


class Shown(Services):
    """What the picture shows."""

    def __init__(self) -> None:  # nothing of the real one, which asks this machine
        self.environment = {}
        self._waiting = proposal()

    @property
    def backends(self) -> Sequence[str]:
        return ("bubblewrap", "docker")

    def agents(self, backend: str) -> tuple[Sequence[Agent], Sequence[str]]:
        return [agent for agent in agents() if agent.backend == backend], ()

    def proposals(self, agents: Sequence[Agent]) -> Listing:
        return Listing((self._waiting,), ())

    def count(self, agents: Sequence[Agent]) -> Counted:
        return Counted(_NUMBERS)


def picture() -> str:
    os.environ.pop("NO_COLOR", None)  # each of these would give it other colours
    for name in [name for name in os.environ if name.startswith("TEXTUAL")]:
        del os.environ[name]
    return asyncio.run(_taken())


async def _taken() -> str:
    from claude_bottle.dashboard.app import Dashboard

    app = Dashboard(Shown(), None, Path("/"), every=0.05)
    app.theme = "textual-dark"
    async with app.run_test(size=_SIZE) as pilot:
        until = time.monotonic() + _WAIT_SECONDS
        while not all_seen(app):
            if time.monotonic() > until:
                raise TimeoutError("the dashboard does not show all of it")
            await pilot.pause(0.05)
        await pilot.press("g")  # the cursor went to whichever was seen first
        await pilot.pause(0.2)  # what is known is also drawn
        return still(app.export_screenshot(title="claude-bottle dashboard", simplify=True))


def all_seen(app: object) -> bool:
    from claude_bottle.dashboard.app import Dashboard

    assert isinstance(app, Dashboard)
    world = app.world
    counted = [agent for agent in world.agents if agent.tokens is not None]
    return len(counted) == len(agents()) and len(world.proposals) == 1


def still(svg: str) -> str:
    """Without fonts from elsewhere, and without a number that says nothing."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\bterminal-\d+-", "dashboard-", svg)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {_FONTS}")
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: script/picture [--check]\n")
        return 2
    made = picture()
    if not arguments:
        PICTURE.write_text(made, encoding="utf-8")
        return 0
    current = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == made
    if not current:
        sys.stderr.write("docs/dashboard.svg is not what the dashboard shows: run script/picture\n")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
