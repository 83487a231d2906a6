"""An operator's edit of a live policy: pure, from the policy that was looked at to the next version of it.

Invariant: what an edit does not name stays as it is, bounds included; a rule that is put in the place of a
bounded one keeps its bounds; nothing that is added sends a connection another way than a rule that stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from claude_bottle.policy.live import UNBOUNDED, Bounds, LivePolicy, LiveRoute
from claude_bottle.policy.model import Route
from claude_bottle.policy.rules import OTHERWISE, treated_otherwise


class EditError(ValueError):
    """The edit cannot be carried out; the text says why."""


class Change(NamedTuple):
    """What an edit takes away and what it adds; a rule whose bounds change is in both."""

    gone: tuple[LiveRoute, ...] = ()
    new: tuple[LiveRoute, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.gone or self.new)


def added(policy: LivePolicy, routes: Iterable[Route], bounds: Bounds, decision: str) -> LivePolicy:
    """Those that are in force already with the same bounds, or with none, are left out. Raises EditError."""
    fresh = [
        LiveRoute(route, bounds, decision)
        for route in routes
        if not any(_same(item.route, route) and item.bounds in (bounds, UNBOUNDED) for item in policy.routes)
    ]
    return _next(policy, policy.routes, fresh)


def removed(policy: LivePolicy, gone: Iterable[LiveRoute]) -> LivePolicy:
    """`gone` are items of the policy itself."""
    left = list(policy.routes)
    for item in gone:
        left.remove(item)
    return _next(policy, left, ())


def rewritten(
    policy: LivePolicy, shown: Sequence[LiveRoute], written: Iterable[Route], decision: str
) -> LivePolicy:
    """`shown` were items of this version, and `written` is what shall stand in place of them.

    A rule that is written as it was stays what it is, with the uses that are left of it. Another one takes
    over the bounds of the first that is gone of the same host. Raises EditError.
    """
    gone, unknown = _present(policy, shown), []
    for route in written:
        same = next((item for item in gone if _same(item.route, route)), None)
        if same is None:
            unknown.append(route)
        else:
            gone.remove(same)
    replaced, fresh = list(gone), []
    for route in unknown:
        old = next((item for item in replaced if item.route.host == route.host), None)
        if old is not None:
            replaced.remove(old)
        fresh.append(LiveRoute(route, old.bounds if old is not None else UNBOUNDED, decision))
    left = list(policy.routes)
    for item in gone:
        left.remove(item)
    return _next(policy, left, fresh)


def led(routes: Iterable[Route], route: Route) -> Route:
    """`route` by the upstream that the rules of its host have for all of its ports, where it names none."""
    if not route.inspect or route.upstream is not None:
        return route
    ways = {port: item.upstream for item in routes if item.host == route.host for port in item.ports}
    known = {ways.get(port) for port in route.ports}
    return route._replace(upstream=known.pop()) if len(known) == 1 else route


def is_bare(route: Route) -> bool:
    """Whether a host alone, the short form, says all of it."""
    return route == Route(route.host, origin=route.origin)


def refuse_widening(policy: LivePolicy, hosts: Iterable[Route]) -> None:
    """A host in short form allows everything on it, so it has no place beside a rule for the same host.

    Raises EditError.
    """
    ruled = {item.route.host for item in policy.routes if not is_bare(item.route)}
    for route in hosts:
        if route.host in ruled:
            raise EditError(f"{route.host} has a rule already, and this would widen it")


def change(old: LivePolicy, new: LivePolicy) -> Change:
    """The difference, in the order of each."""
    return Change(_without(old.routes, new.routes), _without(new.routes, old.routes))


def _next(policy: LivePolicy, kept: Iterable[LiveRoute], fresh: Iterable[LiveRoute]) -> LivePolicy:
    """The same policy where nothing changes. What counts uses stands last: it pays only if it must."""
    left, more = list(kept), list(fresh)
    if len(left) == len(policy.routes) and not more:
        return policy
    routes = [*left, *more]
    for at in treated_otherwise([item.route for item in routes]):
        if any(_meets(routes[at].route, item.route) for item in more):
            raise EditError(f"{routes[at].route.host}: {OTHERWISE}")
    ordered = sorted(routes, key=lambda item: item.bounds.uses is not None)
    return LivePolicy(tuple(ordered), policy.version + 1)


def _meets(one: Route, other: Route) -> bool:
    return one.host == other.host and bool({*one.ports} & {*other.ports})


def _same(one: Route, other: Route) -> bool:
    return one._replace(origin="") == other._replace(origin="")


def _present(policy: LivePolicy, shown: Iterable[LiveRoute]) -> list[LiveRoute]:
    """The same rules as they are now: uses are counted without a new version."""
    left, found = list(policy.routes), []
    for item in shown:
        now = next((other for other in left if _uncounted(other) == _uncounted(item)), None)
        if now is not None:
            left.remove(now)
            found.append(now)
    return found


def _uncounted(item: LiveRoute) -> LiveRoute:
    return item._replace(bounds=item.bounds._replace(uses=None))


def _without(items: Iterable[LiveRoute], others: Iterable[LiveRoute]) -> tuple[LiveRoute, ...]:
    left, found = list(others), []
    for item in items:
        if item in left:
            left.remove(item)
        else:
            found.append(item)
    return tuple(found)
