"""What the supervise sidecar needs of the bundle that it serves in.

Invariant: it may ask, look and say what was told; it can answer nothing and change no route.
"""

from __future__ import annotations

from typing import Protocol

from claude_bottle.policy.live import LivePolicy
from claude_bottle.policy.proposals import Asked, Proposal, Queue


class Desk(Protocol):
    """Where proposals lie until the operator answers them."""

    def ask(self, asked: Asked) -> Proposal:
        """A new proposal, or the one that this repeats. Raises TooManyError, OSError."""
        ...

    async def wait(self, ident: str) -> Proposal:
        """Returns when it has its answer. Raises LookupError where it is gone."""
        ...

    def look(self) -> tuple[LivePolicy, Queue]:
        """What is in force, and all proposals."""
        ...

    def told(self, ident: str) -> None:
        """The agent has been given the answer. Raises LookupError, OSError."""
        ...

    def now(self) -> float:
        """Seconds since the epoch, as grants are measured by."""
        ...
