"""Time says no, and nothing else; and it says it from the time of asking."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    APPROVED,
    CAPABILITY,
    EGRESS,
    EXPIRED,
    PENDING,
    REJECTED,
    Answer,
    Asked,
    Queue,
    answer,
    ask,
)
from claude_bottle.policy.proposals_json import queue_from_json, queue_to_json
from claude_bottle.policy.unanswered import answer_overdue, next_overdue


def asked(*times: float) -> Queue:
    queue = Queue()
    for number, at in enumerate(times):
        queue, _ = ask(queue, Asked(EGRESS, "why", Route(f"h{number}.example.org")), at)
    return queue


def test_what_nobody_limits_waits_for_ever() -> None:
    queue = asked(1.0)
    assert answer_overdue(queue, None, 1e9) is queue
    assert next_overdue(queue, None) is None


def test_with_no_patience_the_answer_is_no_at_once_and_says_why() -> None:
    queue = answer_overdue(asked(100.0), 0.0, 100.0)
    (item,) = queue.proposals
    assert item.answer is not None
    assert item.state == REJECTED
    assert "nobody is there" in item.answer.reason
    assert queue_from_json(queue_to_json(queue)) == queue


def test_a_question_expires_when_its_time_is_over_and_not_before() -> None:
    queue = asked(100.0, 130.0)
    assert next_overdue(queue, 60.0) == 160.0
    assert answer_overdue(queue, 60.0, 159.9) is queue
    later = answer_overdue(queue, 60.0, 160.0)
    assert [item.state for item in later.proposals] == [EXPIRED, PENDING]
    assert next_overdue(later, 60.0) == 190.0
    assert answer_overdue(later, 60.0, 161.0) is later
    assert queue_from_json(queue_to_json(later)) == later


def test_asking_again_gains_no_time() -> None:
    queue = asked(100.0)
    queue, again = ask(queue, queue.proposals[0].asked, 159.0)
    assert again.times == 2
    assert answer_overdue(queue, 60.0, 160.0).proposals[0].state == EXPIRED


def test_what_was_answered_stays_so() -> None:
    queue, item = ask(Queue(), Asked(CAPABILITY, "why", packages=("jq",)), 1.0)
    queue = answer(queue, item.id, Answer(APPROVED, "d1", 2.0))
    assert answer_overdue(queue, 0.0, 1e9) is queue
    assert next_overdue(queue, 0.0) is None


@given(st.lists(st.floats(0, 1e6), max_size=9), st.floats(0, 1e5), st.lists(st.floats(0, 2e6), max_size=9))
def test_it_never_says_yes_and_answers_each_once(
    times: list[float], patience: float, looks: list[float]
) -> None:
    queues = [asked(*sorted(times, reverse=True))]
    for now in sorted(looks):
        queues.append(answer_overdue(queues[-1], patience, now))
    for before, after in pairwise(queues):
        for old, new in zip(before.proposals, after.proposals, strict=True):
            assert new == old or old.answer is None
            assert new.state in (PENDING, REJECTED, EXPIRED)
