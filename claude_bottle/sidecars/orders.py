"""Carries out what the operator's process says to a running bundle: looks, and changes.

Invariant: of two changes that were made from the same version the second is refused; one change at a time is
under way. What was answered stays answered. A decision takes effect once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from claude_bottle.policy.live import live_to_json
from claude_bottle.policy.proposals import AnsweredError, Queue
from claude_bottle.policy.proposals_json import queue_to_json
from claude_bottle.sidecars.control import (
    ANSWERED,
    CONFLICT,
    FAILED,
    INVALID,
    UNKNOWN,
    Applied,
    Authority,
    Change,
    ControlError,
    Json,
    Look,
    Request,
)

if TYPE_CHECKING:
    from claude_bottle.sidecars.egress.certs import CertAndKey
    from claude_bottle.sidecars.proposed import Proposed
    from claude_bottle.sidecars.reach import Reach

_REMEMBERED = 4096


class Orders:
    """`authority` is the bottle's, in memory only."""

    def __init__(self, reach: Reach, proposed: Proposed, authority: CertAndKey | None) -> None:
        self._reach = reach
        self._proposed = proposed
        self._authority = authority
        self._applied: dict[str, None] = {}  # in order
        self._one = asyncio.Lock()

    async def handle(self, request: Request) -> Json:
        """Raises ControlError."""
        if isinstance(request, Look):
            return self._look()
        if isinstance(request, Authority):
            if self._authority is None:
                raise ControlError(UNKNOWN, "this bottle has no certificate authority")
            return {"cert": self._authority.cert_pem, "key": self._authority.key_pem}
        if isinstance(request, Applied):
            return {"applied": self._was_applied(request.decision)}
        async with self._one:
            return await self._change(request)

    def _look(self) -> Json:
        return {
            "live": live_to_json(self._reach.live),
            "proposals": queue_to_json(self._proposed.queue),
            "in_force_at": self._reach.now(),
        }

    def _was_applied(self, decision: str) -> bool:
        answers = (item.answer for item in self._proposed.queue.proposals)
        return decision in self._applied or any(said and said.decision == decision for said in answers)

    async def _change(self, change: Change) -> Json:
        if self._was_applied(change.decision):
            raise ControlError(ANSWERED, "this decision has taken effect already")
        self._check(change)
        closed = 0
        if change.live is None:
            self._commit(change)
        else:
            closed = await self._reach.change(change, change.live, lambda: self._commit(change))
        return {"version": self._reach.live.version, "closed": closed}

    def _check(self, change: Change) -> Queue:
        """The queue with the answers. Raises ControlError."""
        version = self._reach.live.version
        if change.expect is not None and change.expect != version:
            raise ControlError(CONFLICT, f"what is in force is version {version} by now")
        if change.live is not None and change.live.version != version + 1:
            raise ControlError(INVALID, f"the next version is {version + 1}")
        try:
            return self._proposed.with_answers(change.answers)
        except AnsweredError as error:
            raise ControlError(ANSWERED, str(error)) from None
        except LookupError as error:
            raise ControlError(UNKNOWN, f"there is no proposal {error.args[0]}") from None

    def _commit(self, change: Change) -> None:
        """The last that may fail, in the tick in which it takes effect. Raises ControlError."""
        queue = self._check(change)  # much may have happened since it was first asked
        try:
            if change.live is not None:
                self._reach.changed(change.decision, change.live.version)
            self._proposed.put(queue)
        except OSError as error:
            raise ControlError(FAILED, f"it cannot be written down: {error.strerror}") from None
        self._applied[change.decision] = None
        while len(self._applied) > _REMEMBERED:
            del self._applied[next(iter(self._applied))]
