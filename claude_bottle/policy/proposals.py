"""What an agent may ask for, and what becomes of it. Pure: no clock, no socket, no file.

Invariant: a proposal is answered once; whatever comes after the first answer is refused. The same thing
asked again is the same proposal while it waits, and for as long as a rejection holds. Every text in it is the
agent's, and hostile; it is bounded here and made harmless where it is shown.

States: pending -> approved | modified | rejected | expired, and no other way.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from claude_bottle.policy.live import UNBOUNDED, Bounds
from claude_bottle.policy.model import Route
from claude_bottle.policy.snapshot import route_to_json

EGRESS, URL, CAPABILITY = "egress-block", "pipelock-block", "capability-block"
KINDS = (EGRESS, URL, CAPABILITY)
PENDING, APPROVED, MODIFIED, REJECTED, EXPIRED = "pending", "approved", "modified", "rejected", "expired"
ANSWERS = (APPROVED, MODIFIED, REJECTED, EXPIRED)

MAX_TEXT = 2000  # characters of a justification, a reason
MAX_DOCKERFILE = 16_000
MAX_PACKAGES = 50
MAX_PENDING = 32
MAX_KEPT = 128  # answered ones are forgotten, the oldest first
MAX_NEW_A_MINUTE = 10
REJECTION_HOLDS = 600.0  # seconds in which the same question gets the same no


class Asked(NamedTuple):
    """What an agent asks for. `route` for EGRESS and URL; `packages` and `dockerfile` for CAPABILITY.

    A route that is asked for has no credential, no upstream and no wildcard: those are the operator's.
    """

    kind: str
    justification: str
    route: Route | None = None
    url: str = ""  # of URL: what failed, as the agent wrote it
    wish: float | None = None  # for how many seconds it would like it
    packages: tuple[str, ...] = ()
    dockerfile: str = ""  # lines to add

    def asks_like(self, other: Asked) -> bool:
        """Whether both ask for the same, whatever they say about it: then they have one digest."""
        mine, theirs = (
            (item.kind, item.route and item.route[:-1], item.url, item.packages, item.dockerfile)
            for item in (self, other)
        )
        return mine == theirs

    @property
    def digest(self) -> str:
        """The same for two that ask for the same, whatever they say about it."""
        route = self.route and route_to_json(self.route._replace(origin=""))
        same = [self.kind, route, self.url, self.packages, self.dockerfile]
        return hashlib.sha256(json.dumps(same).encode()).hexdigest()


class Answer(NamedTuple):
    """What the operator, or time, has said."""

    state: str  # one of ANSWERS
    decision: str  # a random word, the same as in the audit log
    at: float
    reason: str = ""
    route: Route | None = None  # what was granted
    bounds: Bounds = UNBOUNDED
    packages: tuple[str, ...] = ()
    dockerfile: str = ""


class Proposal(NamedTuple):
    """One question of an agent's, and its answer as soon as there is one."""

    id: str  # "p-" and ten hexadecimal digits
    asked: Asked
    at: float  # seconds since the epoch
    times: int = 1  # how often it was asked
    answer: Answer | None = None
    told: bool = False  # whether the agent was given the answer

    @property
    def state(self) -> str:
        return PENDING if self.answer is None else self.answer.state


class Queue(NamedTuple):
    """All proposals of one bottle, the oldest first."""

    proposals: tuple[Proposal, ...] = ()

    @property
    def pending(self) -> tuple[Proposal, ...]:
        return tuple(item for item in self.proposals if item.answer is None)

    def find(self, ident: str) -> Proposal | None:
        return next((item for item in self.proposals if item.id == ident), None)


class TooManyError(Exception):
    """The agent asks too much. The text is for the agent."""


class AnsweredError(Exception):
    """The proposal has its answer already. The text is for the operator."""


def ask(queue: Queue, asked: Asked, now: float) -> tuple[Queue, Proposal]:
    """The queue with this question in it, and its proposal: a new one, or the one that it repeats.

    Raises TooManyError.
    """
    for item in reversed(queue.proposals):
        if item.asked.asks_like(asked) and _still_holds(item, now):
            again = item._replace(times=item.times + 1)
            return _with(queue, again), again
    if len(queue.pending) >= MAX_PENDING:
        raise TooManyError(f"{MAX_PENDING} proposals wait for an answer already")
    if sum(now - item.at < 60 for item in queue.proposals) >= MAX_NEW_A_MINUTE:
        raise TooManyError(f"more than {MAX_NEW_A_MINUTE} new proposals in a minute")
    nonce = f"{asked.digest}:{now}:{len(queue.proposals)}"
    made = Proposal("p-" + hashlib.sha256(nonce.encode()).hexdigest()[:10], asked, now)
    return Queue(_fewer((*queue.proposals, made))), made


def answer(queue: Queue, ident: str, said: Answer) -> Queue:
    """The queue with this answer. Raises LookupError, AnsweredError."""
    found = queue.find(ident)
    if found is None:
        raise LookupError(ident)
    if found.answer is not None:
        raise AnsweredError(f"{ident} was {found.state} already")
    if said.state not in ANSWERS:
        raise ValueError(said.state)
    return _with(queue, found._replace(answer=said))


def tell(queue: Queue, ident: str) -> Queue:
    """The queue in which the agent knows the answer. Raises LookupError."""
    found = queue.find(ident)
    if found is None or found.answer is None:
        raise LookupError(ident)
    return _with(queue, found._replace(told=True))


def _still_holds(item: Proposal, now: float) -> bool:
    if item.answer is None:
        return True
    if item.answer.state == REJECTED:
        return now - item.answer.at < REJECTION_HOLDS
    return False  # what was approved is in force, or has run out and may be asked for again


def _with(queue: Queue, changed: Proposal) -> Queue:
    return Queue(tuple(changed if item.id == changed.id else item for item in queue.proposals))


def _fewer(items: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    surplus = len(items) - MAX_KEPT
    if surplus <= 0:
        return items
    old = [item.id for item in items if item.answer is not None][:surplus]
    return tuple(item for item in items if item.id not in old)
