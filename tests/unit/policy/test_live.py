"""Grants hold until the first of their bounds, and not a moment or a use longer."""

from __future__ import annotations

import pytest

from claude_bottle.policy.live import (
    Bounds,
    LivePolicy,
    LiveRoute,
    in_force,
    live,
    live_from_json,
    live_to_json,
    next_end,
    used,
    without_ended,
)
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.snapshot import PolicyFormatError

BASE = Route("example.org")
MORE = Route("files.example.org", methods=("GET",), origin="approved")


def granted(until: float | None = None, uses: int | None = None) -> LivePolicy:
    return LivePolicy((LiveRoute(BASE), LiveRoute(MORE, Bounds(until, uses), "d1")), 3)


def test_what_a_bottle_starts_with_has_no_bounds() -> None:
    policy = Policy((BASE, MORE), 2)
    assert in_force(live(policy), 1e11) == policy
    assert next_end(live(policy)) is None


def test_a_grant_ends_at_its_time_and_not_before() -> None:
    policy = granted(until=100.0)
    assert in_force(policy, 99.9).routes == (BASE, MORE)
    assert in_force(policy, 100.0).routes == (BASE,)
    assert next_end(policy) == 100.0
    assert without_ended(policy, 99.9) is policy
    assert without_ended(policy, 100.0) == LivePolicy((LiveRoute(BASE),), 4)


def test_a_grant_is_gone_with_its_last_use() -> None:
    policy = granted(uses=2)
    policy = used(policy, MORE, 0)
    assert in_force(policy, 0).routes == (BASE, MORE)
    policy = used(policy, MORE, 0)
    assert in_force(policy, 0).routes == (BASE,)
    with pytest.raises(LookupError):
        used(policy, MORE, 0)


def test_what_the_manifest_allows_as_well_uses_no_grant_up() -> None:
    policy = LivePolicy((LiveRoute(MORE), LiveRoute(MORE, Bounds(None, 1), "d1")))
    assert used(policy, MORE, 0) is policy


def test_as_json_and_back() -> None:
    policy = granted(until=12.5, uses=1)
    assert live_from_json(live_to_json(policy)) == policy


@pytest.mark.parametrize(
    "bound",
    [
        [None, -1, ""],
        [None, True, ""],
        ["soon", None, ""],
        [float("nan"), None, ""],
        [None, None, "a\n"],
        [1],
    ],
)
def test_bounds_that_make_no_sense_are_refused(bound: object) -> None:
    obj = live_to_json(granted())
    obj["bounds"] = [[None, None, ""], bound]
    with pytest.raises(PolicyFormatError):
        live_from_json(obj)
