"""Connections by name, and the requests that go through them, when the policy changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from claude_bottle.policy.model import Decision, Policy, Route
from claude_bottle.policy.routes import decide_connect, decide_request
from claude_bottle.sidecars.visits import REMEMBERED, Visit, Visits

HOST = "a.example.org"
BOTH = Policy((Route(HOST, paths=("/one",)), Route(HOST, paths=("/two",), ports=(443, 8443))))
ONE = Policy(BOTH.routes[:1])


def connect(policy: Policy) -> Callable[[str, int], Decision]:
    return lambda host, port: decide_connect(policy, host, port)


def request(policy: Policy) -> Callable[[str, int, str, str], Decision]:
    return lambda host, port, method, path: decide_request(policy, host, port, method, path)


def closed_by(*carried: tuple[int, str, bool], after: Policy = ONE, judged: bool = True) -> bool:
    """Whether a connection ends, in which these requests (port, path, alone) were made, when one rule goes."""

    async def run() -> bool:
        visits = Visits("egress", connect(BOTH), 1, lambda line: None)
        with visits.enter() as visit:
            visit.task = None
            visits.admit(visit, HOST, 443)
            for port, path, alone in carried:
                visits.carries(visit.name, (port, "GET", path), alone=alone)
            judge = request(after) if judged else None
            return visits.set_policy(connect(after), 2, judge=judge) == 1

    return asyncio.run(run())


def test_the_last_of_requests_that_come_one_by_one_counts() -> None:
    assert closed_by((443, "/one", True), (443, "/two", True))
    assert not closed_by((443, "/two", True), (443, "/one", True))
    assert not closed_by()
    assert not closed_by((443, "/two", True), judged=False)
    assert not closed_by((443, "/two", True), after=BOTH)


def test_each_of_those_that_come_side_by_side_counts() -> None:
    assert closed_by((443, "/two", False), (443, "/one", False))
    assert not closed_by((443, "/one", False), (443, "/one/more", False))


def test_the_port_that_was_asked_for_counts() -> None:
    wide = Policy((Route(HOST, paths=("/two",)),))
    assert closed_by((8443, "/two", True), after=wide)
    assert not closed_by((443, "/two", True), after=wide)


def test_of_more_than_can_be_known_none_is_trusted() -> None:
    many = [(443, f"/one/{number}{'x' * 1000}", False) for number in range(REMEMBERED // 1000 + 1)]
    assert closed_by(*many, after=BOTH)


def test_names_are_addresses_that_no_two_connections_share() -> None:
    async def run() -> list[str]:
        visits = Visits("egress", connect(BOTH), 1, lambda line: None)
        with ExitStack() as stack:
            return [stack.enter_context(visits.enter()).name for _ in range(3)]

    assert asyncio.run(run()) == ["10.0.0.0:2", "10.0.0.0:3", "10.0.0.0:4"]
    assert Visit(60_000, None, 0.0, 1).name == "10.0.0.1:1"


def test_what_is_over_carries_nothing() -> None:
    async def run() -> None:
        visits = Visits("egress", connect(BOTH), 1, lambda line: None)
        with visits.enter() as visit:
            visit.task = None
            visits.admit(visit, HOST, 443)
            visits.set_policy(connect(Policy(())), 2)
            with pytest.raises(LookupError):
                visits.carries(visit.name, (443, "GET", "/one"), alone=True)
        with pytest.raises(LookupError):
            visits.carries(visit.name, (443, "GET", "/one"), alone=True)

    asyncio.run(run())
