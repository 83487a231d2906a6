"""The connections of one stage, the policy that they are judged by, and the lines about them.

Invariant: a connection that is in a stage is allowed by the newest policy that the stage was
given, or is being closed. A line that cannot be recorded ends the connection that it is about.

Rules:
- A new policy is first asked about every connection; if that fails, the old one stays in force.
- A connection is closed when its host is no longer allowed, and when its rule changed the way that
  it takes (inspected or opaque, another upstream): such a tunnel would outlive the checks.
- So is one that carries a request which is no longer allowed. Of requests that come one after another
  that is the last; of those that come side by side it may be any since the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count

from claude_bottle.policy.model import Decision, Route
from claude_bottle.sidecars.pipelock.protocol import StageError

Decide = Callable[[str, int], Decision]
Judge = Callable[[str, int, str, str], Decision]  # host, port, method, path
Asked = tuple[int, str, str]  # port, method, path; the host is the connection's
Record = Callable[[Mapping[str, object]], None]

REMEMBERED = 64 * 1024  # characters of paths, of a connection that carries requests side by side
POLICY_CHANGED = "policy-changed"


class UnrecordedError(Exception):
    """A decision could not be written down, so it must not take effect."""


class Visit:
    """One connection: what it asked for, and what is known of it by now."""

    def __init__(self, number: int, task: asyncio.Task[object] | None, began: float, policy: int) -> None:
        self.number = number
        self.task = task
        self.began = began
        self.policy = policy
        self.host = ""
        self.port = 0
        self.sni: str | None = None
        self.route: Route | None = None
        self.nearest: Route | None = None  # the rule that comes nearest, where none allows it
        self.address = ""
        self.judged = False  # its decision has been recorded
        self.closing = ""  # why the stage itself ends it
        self.requests: dict[Asked, None] | None = {}  # that may be under way in it; None: too many to know

    @property
    def name(self) -> str:
        """An address of no host: by this Envoy tells the connections of the gate apart."""
        high, port = divmod(self.number, 60_000)
        return f"10.{high >> 16 & 255}.{high >> 8 & 255}.{high & 255}:{port + 1}"


class Visits:
    """All connections of one stage."""

    def __init__(self, stage: str, decide: Decide, version: int, record: Record) -> None:
        self._stage = stage
        self._decide = decide
        self._version = version
        self._record = record
        self._numbers = count(1)
        self._open: set[Visit] = set()
        self._named: dict[str, Visit] = {}

    @contextmanager
    def enter(self) -> Iterator[Visit]:
        """A visit of the running task."""
        now = asyncio.get_running_loop().time()
        visit = Visit(next(self._numbers), asyncio.current_task(), now, self._version)
        self._open.add(visit)
        self._named[visit.name] = visit
        try:
            yield visit
        finally:
            self._open.discard(visit)
            del self._named[visit.name]

    def carries(self, name: str, asked: Asked, *, alone: bool) -> None:
        """A request goes through a visit. Raises LookupError where that is over."""
        visit = self._named[name]
        if visit.closing:
            raise LookupError(name)
        if alone:
            visit.requests = {asked: None}
        elif visit.requests is not None and asked not in visit.requests:
            visit.requests[asked] = None
            if sum(len(path) + 8 for _, _, path in visit.requests) > REMEMBERED:
                visit.requests = None

    def admit(self, visit: Visit, host: str, port: int) -> Route:
        """The rule that allows the visit; raises `StageError` if there is none."""
        visit.host, visit.port, visit.policy = host, port, self._version
        decision = self._decide(host, port)
        if not decision.allowed or decision.route is None:
            visit.nearest = decision.nearest
            raise StageError(decision.reason, decision.detail, refused=True)
        visit.route = decision.route
        return decision.route

    def set_policy(
        self, decide: Decide, version: int, standing: Decide | None = None, judge: Judge | None = None
    ) -> int:
        """Judge by `decide` from now on; the number of connections that this closes.

        `standing`, if given, says which connections may stay that are there already; `judge`, which of the
        requests in them.
        """
        still = standing or decide
        doomed = [visit for visit in self._open if not (_stands(visit, still) and _may_go_on(visit, judge))]
        self._decide, self._version = decide, version
        for visit in doomed:
            visit.closing = POLICY_CHANGED
            if visit.task is not None:
                visit.task.cancel()
        return len(doomed)

    def allow(self, visit: Visit) -> None:
        """Record that the visit may pass; raises `UnrecordedError`."""
        self._judge(visit, "allow", "allowed", "")

    def deny(self, visit: Visit, reason: str, detail: str) -> None:
        """Record that the visit may not pass; raises `UnrecordedError`."""
        self._judge(visit, "deny", reason, detail)

    def end(self, visit: Visit, reason: str, bytes_up: int, bytes_down: int) -> None:
        """Record what passed in an allowed visit; raises `UnrecordedError`."""
        seconds = asyncio.get_running_loop().time() - visit.began
        line = {"bytes_up": bytes_up, "bytes_down": bytes_down, "seconds": round(seconds, 3)}
        self._write({**self._about(visit), "event": "close", "reason": reason, **line})

    def _judge(self, visit: Visit, verdict: str, reason: str, detail: str) -> None:
        visit.judged = True
        line = {"event": "connect", "verdict": verdict, "reason": reason, "detail": detail}
        self._write({**self._about(visit), **line})

    def _about(self, visit: Visit) -> dict[str, object]:
        route = visit.route
        return {
            "stage": self._stage,
            "connection": visit.number,
            "policy": visit.policy,
            "host": visit.host or None,
            "port": visit.port or None,
            "sni": visit.sni,
            "rule": route.host if route else None,
            "origin": route.origin if route else None,
            "inspect": route.inspect if route else None,
            "address": visit.address or None,
        }

    def _write(self, event: Mapping[str, object]) -> None:
        try:
            self._record(event)
        except OSError as error:
            raise UnrecordedError(f"the decision log cannot be written: {error}") from error


def _may_go_on(visit: Visit, judge: Judge | None) -> bool:
    if judge is None:
        return True
    if visit.requests is None:
        return False
    return all(judge(visit.host, *asked).allowed for asked in visit.requests)


def _stands(visit: Visit, decide: Decide) -> bool:
    old = visit.route
    if old is None:
        return True  # not judged yet: the new policy will be asked
    decision = decide(visit.host, visit.port)
    new = decision.route if decision.allowed else None
    return new is not None and (new.inspect, new.upstream) == (old.inspect, old.upstream)
