"""Grants end by the clock and by their uses, whoever is late."""

from __future__ import annotations

import time

import pytest

from claude_bottle.policy.live import UNBOUNDED, Bounds, LivePolicy, LiveRoute
from claude_bottle.policy.model import Route
from claude_bottle.sidecars.in_force import SPENT_SECONDS, InForce, steady_clock

A, B = Route("a.example.org"), Route("b.example.org")


class World:
    """A clock that is set by hand, and what has ended."""

    def __init__(self, *items: LiveRoute) -> None:
        self.time = 100.0
        self.ended: list[str] = []
        self.force = InForce(LivePolicy(items), self.note, lambda: self.time)

    def note(self, gone: tuple[LiveRoute, ...]) -> None:
        self.ended += [item.grant for item in gone]

    def may(self, host: str) -> tuple[bool, bool]:
        """What is new, and what is there already."""
        return self.force.connect(host, 443).allowed, self.force.connect_standing(host, 443).allowed


def grant(route: Route, until: float | None = None, uses: int | None = None) -> LiveRoute:
    return LiveRoute(route, Bounds(until, uses), f"of-{route.host[0]}")


def test_a_decision_after_the_end_is_no_though_no_timer_came() -> None:
    world = World(grant(A, until=101), LiveRoute(B, UNBOUNDED))
    assert world.may(A.host) == (True, True)
    world.time = 101
    assert world.may(A.host) == (False, False)
    assert (world.ended, world.force.live.version) == (["of-a"], 2)
    assert world.may(B.host) == (True, True)
    world.time = 100
    assert world.may(A.host) == (False, False)


def test_a_grant_is_spent_by_its_uses_and_what_is_under_way_may_end() -> None:
    world = World(grant(A, uses=2))
    world.force.use(A)
    assert (world.may(A.host), world.force.live.version) == ((True, True), 1)
    world.force.use(A)
    assert (world.may(A.host), world.force.live.version) == ((False, True), 2)
    assert world.ended == ["of-a"]
    with pytest.raises(LookupError):
        world.force.use(A)
    assert world.force.wake_at() == 100 + SPENT_SECONDS
    world.time = 100 + SPENT_SECONDS
    assert world.may(A.host) == (False, False)


def test_what_is_under_way_on_a_spent_grant_ends_with_its_time_as_well() -> None:
    world = World(grant(A, until=110, uses=1))
    world.force.use(A)
    assert world.force.wake_at() == 110
    world.time = 110
    assert world.may(A.host) == (False, False)


def test_a_route_without_a_number_is_used_for_ever() -> None:
    world = World(LiveRoute(A), grant(B, uses=1))
    for _ in range(5):
        world.force.use(A)
    assert world.may(A.host) == (True, True)
    assert world.force.live.version == 1


def test_what_is_not_in_force_cannot_be_used() -> None:
    world = World(LiveRoute(A))
    with pytest.raises(LookupError):
        world.force.use(B)


def test_nothing_ends_where_nothing_has_an_end() -> None:
    assert World(LiveRoute(A)).force.wake_at() == float("inf")


def test_a_clock_that_is_set_back_brings_no_time_back(monkeypatch: pytest.MonkeyPatch) -> None:
    day, since_boot = [1_000_000.0], [500.0]
    monkeypatch.setattr(time, "time", lambda: day[0])
    monkeypatch.setattr(time, "clock_gettime", lambda _: since_boot[0])
    now = steady_clock()
    day[0] -= 3600
    since_boot[0] += 10
    assert now() == 1_000_010.0
    day[0] += 7200
    assert now() == day[0]
