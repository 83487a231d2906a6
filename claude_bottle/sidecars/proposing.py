"""The desk of the supervise sidecar, as the bundle keeps it: proposals beside the policy in force.

Invariant: it adds questions and says which answers were told; answers and routes come from the operator
alone.
"""

from __future__ import annotations

from claude_bottle.policy.live import LivePolicy
from claude_bottle.policy.proposals import Asked, Proposal, Queue
from claude_bottle.sidecars.proposed import Proposed
from claude_bottle.sidecars.reach import Reach


class Proposing:
    """See `sidecars.supervise.desk`."""

    def __init__(self, proposed: Proposed, reach: Reach) -> None:
        self._proposed = proposed
        self._reach = reach

    def ask(self, asked: Asked) -> Proposal:
        return self._proposed.ask(asked)

    async def wait(self, ident: str) -> Proposal:
        while True:
            found = self._proposed.queue.find(ident)
            if found is None:
                raise LookupError(ident)
            if found.answer is not None:
                return found
            await self._proposed.changed()

    def look(self) -> tuple[LivePolicy, Queue]:
        return self._reach.live, self._proposed.queue

    def told(self, ident: str) -> None:
        self._proposed.tell(ident)

    def now(self) -> float:
        return self._reach.now()
