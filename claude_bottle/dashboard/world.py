"""What the dashboard knows at a moment: frozen data, made by `source`, read by everything that draws.

Invariant: what is not known is None, and never a number or a word that could be true.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_bottle.operations.proposals import Waiting


class Agent(NamedTuple):
    """What runs. `services` are the sidecars that are up, `down` those that should be."""

    backend: str
    slug: str
    name: str
    started: float  # seconds since 1970
    services: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    status: str = "unknown"  # a word of `operations.status`
    waiting_for: str = ""
    branch: str = ""
    approvals: int | None = None
    tokens: int | None = None
    added: int | None = None  # lines, against what the workspace began with
    removed: int | None = None


class Launch(NamedTuple):
    """An agent that comes up. It has no slug yet; `ident` is the dashboard's own name for it."""

    ident: str
    agent: str
    backend: str  # empty where the default is taken
    steps: tuple[str, ...] = ()
    failure: str = ""  # why it has not come up; it stays until the operator has seen it


class World(NamedTuple):
    """Agents in the order of their start, proposals the oldest first."""

    agents: tuple[Agent, ...] = ()
    proposals: tuple[Waiting, ...] = ()
    launches: tuple[Launch, ...] = ()
    warnings: tuple[str, ...] = ()  # of backends that are slow or broken, and bottles that do not answer
    looked: bool = False  # False until somebody has looked: then nothing is known, rather than nothing there


def key_of(item: Waiting) -> str:
    """The identity of a proposal over all bottles."""
    return f"{item.slug}/{item.proposal.id}"
