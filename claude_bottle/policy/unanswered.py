"""What becomes of a proposal that nobody answers. Pure.

Invariant: time only ever says no. It counts from when the agent asked, so neither a restart nor a question
that is repeated gains anything; a clock that jumps ahead refuses too early.
"""

from __future__ import annotations

from claude_bottle.policy.proposals import EXPIRED, REJECTED, Answer, Proposal, Queue, answer

_WORD = "unanswered-"


def by_time(said: Answer) -> bool:
    """Whether nobody has said it."""
    return said.decision.startswith(_WORD)


def answer_overdue(queue: Queue, patience: float | None, now: float) -> Queue:
    """The queue in which what has waited for `patience` seconds has its answer; None waits for ever.

    The same queue where there is nothing of the kind.
    """
    if patience is None:
        return queue
    for item in queue.pending:
        if now >= item.at + patience:
            queue = answer(queue, item.id, _refusal(item, patience, now))
    return queue


def next_overdue(queue: Queue, patience: float | None) -> float | None:
    """When the first that waits will have waited for too long."""
    if patience is None:
        return None
    return min((item.at + patience for item in queue.pending), default=None)


def _refusal(item: Proposal, patience: float, now: float) -> Answer:
    if patience == 0:
        reason = (
            "nobody is there to answer: this agent runs unattended. Go on without it,"
            " and say at the end what is missing"
        )
        return Answer(REJECTED, f"{_WORD}{item.id}", now, reason)
    reason = (
        f"nobody has answered within {patience:g} s. Go on without it, and say at the end what is missing"
    )
    return Answer(EXPIRED, f"{_WORD}{item.id}", now, reason)
