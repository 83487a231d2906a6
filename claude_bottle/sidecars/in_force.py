"""What a running bottle may reach at this moment: the live policy, asked with a clock.

Invariant: a grant allows nothing after its end, whoever is late: every decision looks at the clock, and no
clock that is set back makes a grant longer. A use is counted before what it pays for goes out.

A grant whose last use was taken is gone at once for whatever is new; what is under way on it has
`SPENT_SECONDS` to end, and for that long `standing` still knows its route.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from claude_bottle.policy.live import LivePolicy, LiveRoute, in_force, next_end, used, without_ended
from claude_bottle.policy.model import Decision, Policy, Route
from claude_bottle.policy.routes import decide_connect, decide_request

SPENT_SECONDS = 60.0

Clock = Callable[[], float]


def steady_clock() -> Clock:
    """The time of day, but never slower than what has passed: setting it back does not bring a grant back."""
    began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return lambda: max(time.time(), began + time.clock_gettime(time.CLOCK_BOOTTIME))


class InForce:
    """`ended` is told of what has run out, in the middle of a decision: it must do nothing but take note."""

    def __init__(
        self, live: LivePolicy, ended: Callable[[tuple[LiveRoute, ...]], object], clock: Clock | None = None
    ) -> None:
        self.now = clock or steady_clock()
        self._ended = ended
        self._spent: tuple[tuple[Route, float], ...] = ()
        self.replace(live)

    def replace(self, live: LivePolicy) -> None:
        self.live = live
        self._policy = in_force(live, self.now())
        end = next_end(live)
        self._end = inf if end is None else end
        self._counts = any(item.bounds.uses is not None for item in live.routes)

    @property
    def policy(self) -> Policy:
        """What is allowed now."""
        now = self.now()
        if now >= self._end:
            self._drop_ended(now)
        return self._policy

    @property
    def standing(self) -> Policy:
        """What is allowed, and what may still end."""
        now, policy = self.now(), self.policy
        if not self._spent:
            return policy
        self._spent = tuple(item for item in self._spent if now < item[1])
        return policy._replace(routes=policy.routes + tuple(route for route, _ in self._spent))

    def connect(self, host: str, port: int) -> Decision:
        return decide_connect(self.policy, host, port)

    def connect_standing(self, host: str, port: int) -> Decision:
        return decide_connect(self.standing, host, port)

    def request(self, host: str, port: int, method: str, path: str) -> Decision:
        return decide_request(self.policy, host, port, method, path)

    def request_standing(self, host: str, port: int, method: str, path: str) -> Decision:
        return decide_request(self.standing, host, port, method, path)

    def use(self, route: Route) -> None:
        """Counts one use. Raises LookupError where none is left."""
        if route not in self.policy.routes:
            raise LookupError(route.host)
        if not self._counts:
            return
        now = self.now()
        after = used(self.live, route, now)
        if after is self.live:
            return
        self.replace(after)
        if route not in self._policy.routes:
            ends = [item.bounds.until for item in after.routes if item.route == route and item.bounds.until]
            self._spent += ((route, min([now + SPENT_SECONDS, *ends])),)
            self._drop_ended(now)

    def wake_at(self) -> float:
        """When something ends next; infinity where nothing does."""
        return min([self._end, *(until for _, until in self._spent)])

    def _drop_ended(self, now: float) -> None:
        before = self.live
        self.replace(without_ended(before, now))
        gone = tuple(item for item in before.routes if item not in self.live.routes)
        if gone:
            self._ended(gone)
