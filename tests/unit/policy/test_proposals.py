"""A proposal is asked once, answered once, and bounded in every direction."""

from __future__ import annotations

import pytest

from claude_bottle.policy.live import Bounds
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    APPROVED,
    CAPABILITY,
    EGRESS,
    MAX_KEPT,
    MAX_NEW_A_MINUTE,
    MAX_PENDING,
    PENDING,
    REJECTED,
    REJECTION_HOLDS,
    Answer,
    AnsweredError,
    Asked,
    Queue,
    TooManyError,
    answer,
    ask,
    tell,
)
from claude_bottle.policy.proposals_json import queue_from_json, queue_to_json
from claude_bottle.policy.snapshot import PolicyFormatError


def host(number: int = 0, why: str = "the tests") -> Asked:
    return Asked(EGRESS, why, Route(f"h{number}.example.org", methods=("GET",)), wish=60.0)


def test_the_same_question_is_the_same_proposal_whatever_is_said_about_it() -> None:
    queue, first = ask(Queue(), host(), 1.0)
    queue, again = ask(queue, host(why="please"), 2.0)
    assert (again.id, again.times, again.at) == (first.id, 2, 1.0)
    assert queue.proposals == (again,)
    assert again.state == PENDING


def test_a_question_is_answered_once() -> None:
    queue, item = ask(Queue(), host(), 1.0)
    queue = answer(queue, item.id, Answer(APPROVED, "d1", 2.0, bounds=Bounds(uses=1)))
    with pytest.raises(AnsweredError, match="approved already"):
        answer(queue, item.id, Answer(REJECTED, "d2", 2.0))
    with pytest.raises(LookupError):
        answer(queue, "p-0000000000", Answer(REJECTED, "d2", 2.0))
    found = tell(queue, item.id).find(item.id)
    assert found is not None
    assert (found.told, found.state) == (True, APPROVED)


def test_a_rejection_holds_for_a_while_and_then_it_may_be_asked_again() -> None:
    queue, item = ask(Queue(), host(), 1.0)
    queue = answer(queue, item.id, Answer(REJECTED, "d1", 2.0, "no"))
    queue, same = ask(queue, host(), REJECTION_HOLDS)
    assert (same.id, same.state) == (item.id, REJECTED)
    queue, other = ask(queue, host(), 2.0 + REJECTION_HOLDS)
    assert (other.state, other.id == item.id) == (PENDING, False)


def test_no_more_than_so_many_in_a_minute_and_so_many_at_once() -> None:
    queue = Queue()
    for number in range(MAX_NEW_A_MINUTE):
        queue, _ = ask(queue, host(number), 1.0)
    with pytest.raises(TooManyError, match="minute"):
        ask(queue, host(99), 1.0)
    for number in range(MAX_NEW_A_MINUTE, MAX_PENDING):
        queue, _ = ask(queue, host(number), number * 100.0)
    with pytest.raises(TooManyError, match="wait"):
        ask(queue, host(99), 1e6)


def test_answered_ones_are_forgotten_and_waiting_ones_are_not() -> None:
    queue, waiting = ask(Queue(), host(10**6), 0.0)
    for number in range(2 * MAX_KEPT):
        queue, item = ask(queue, host(number), 100.0 * (number + 1))
        queue = answer(queue, item.id, Answer(REJECTED, "d", 1.0))
    assert len(queue.proposals) == MAX_KEPT
    assert queue.pending == (waiting,)


def test_as_json_and_back() -> None:
    queue, item = ask(Queue(), host(), 1.5)
    queue = answer(queue, item.id, Answer(APPROVED, "d1", 2.0, "ok", host().route, Bounds(3.0, 1)))
    queue, _ = ask(queue, Asked(CAPABILITY, "jq", packages=("jq", "gcc=4:12")), 3.0)
    assert queue_from_json(queue_to_json(queue)) == queue


@pytest.mark.parametrize(
    ("key", "value"),
    [("id", "../p"), ("at", float("inf")), ("times", -1), ("answer", {}), ("asked", None), ("at", True)],
)
def test_what_is_not_a_proposal_is_refused(key: str, value: object) -> None:
    queue, _ = ask(Queue(), host(), 1.5)
    obj = queue_to_json(queue)
    assert isinstance(obj[0], dict)
    obj[0][key] = value
    with pytest.raises(PolicyFormatError):
        queue_from_json(obj)


@pytest.mark.parametrize(
    ("key", "value"), [("justification", "x" * 2001), ("packages", ["-rf"]), ("kind", "x")]
)
def test_what_asks_for_too_much_is_refused(key: str, value: object) -> None:
    queue, _ = ask(Queue(), host(), 1.5)
    obj = queue_to_json(queue)
    assert isinstance(obj[0], dict)
    obj[0]["asked"][key] = value
    with pytest.raises(PolicyFormatError):
        queue_from_json(obj)
