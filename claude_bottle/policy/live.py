"""The policy of a running bottle: what its manifest allows, and what was approved since, with bounds.

Invariant: a grant is in force until the first of its bounds is reached, and never after it. Grants stand
after the manifest's routes, so a request that both allow uses none up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.snapshot import PolicyFormatError, policy_from_json, policy_to_json

SCHEMA = 1


class Bounds(NamedTuple):
    """How long, and how often. None is no bound of this kind: then the bottle's own end is the bound."""

    until: float | None = None  # seconds since the epoch
    uses: int | None = None  # left: requests on an inspected route, tunnels on an opaque one


UNBOUNDED = Bounds()


class LiveRoute(NamedTuple):
    """A route in force. `grant` names the decision that allowed it, and is empty for the manifest's own."""

    route: Route
    bounds: Bounds = UNBOUNDED
    grant: str = ""


class LivePolicy(NamedTuple):
    """An immutable snapshot; a change is a new one with a higher version."""

    routes: tuple[LiveRoute, ...]
    version: int = 1


def live(policy: Policy) -> LivePolicy:
    """What a bottle starts with."""
    return LivePolicy(tuple(LiveRoute(route) for route in policy.routes), policy.version)


def in_force(policy: LivePolicy, now: float) -> Policy:
    """What is allowed at this moment."""
    return Policy(tuple(item.route for item in policy.routes if _holds(item, now)), policy.version)


def items_in_force(policy: LivePolicy, now: float) -> tuple[LiveRoute, ...]:
    """The same, with bounds and grants."""
    return tuple(item for item in policy.routes if _holds(item, now))


def without_ended(policy: LivePolicy, now: float) -> LivePolicy:
    """The next version, without what has run out; the same one where nothing has."""
    left = tuple(item for item in policy.routes if _holds(item, now))
    return policy if len(left) == len(policy.routes) else LivePolicy(left, policy.version + 1)


def used(policy: LivePolicy, route: Route, now: float) -> LivePolicy:
    """After one use of `route`. Where it stands more than once, a bounded one pays only if no other is free.

    The version stays: what a bottle may do changes only when nothing is left. Raises LookupError where no
    route in force is the one that was used.
    """
    mine = [(at, item) for at, item in enumerate(policy.routes) if item.route == route and _holds(item, now)]
    if not mine:
        raise LookupError(route.host)
    if any(item.bounds.uses is None for _, item in mine):
        return policy
    at, item = mine[0]
    left = item.bounds._replace(uses=(item.bounds.uses or 0) - 1)
    return policy._replace(routes=(*policy.routes[:at], item._replace(bounds=left), *policy.routes[at + 1 :]))


def counted_as(new: LivePolicy, old: LivePolicy) -> LivePolicy:
    """`new`, in which no grant of `old` has more uses left than there: some may have been taken meanwhile."""
    left = {(item.grant, item.route): item.bounds.uses for item in old.routes}
    return new._replace(
        routes=tuple(_at_most(item, left.get((item.grant, item.route))) for item in new.routes)
    )


def _at_most(item: LiveRoute, uses: int | None) -> LiveRoute:
    if uses is None or item.bounds.uses is None or item.bounds.uses <= uses:
        return item
    return item._replace(bounds=item.bounds._replace(uses=uses))


def next_end(policy: LivePolicy) -> float | None:
    """When the first grant runs out by time."""
    return min((item.bounds.until for item in policy.routes if item.bounds.until is not None), default=None)


def live_to_json(policy: LivePolicy) -> dict[str, object]:
    bare = policy_to_json(Policy(tuple(item.route for item in policy.routes), policy.version))
    bounds = [[item.bounds.until, item.bounds.uses, item.grant] for item in policy.routes]
    return {"schema": SCHEMA, "policy": bare, "bounds": bounds}


def live_from_json(obj: object) -> LivePolicy:
    """The inverse of `live_to_json`; raises PolicyFormatError."""
    if not isinstance(obj, Mapping) or set(obj) != {"schema", "policy", "bounds"} or obj["schema"] != SCHEMA:
        raise PolicyFormatError("not a live policy of this version")
    policy, bounds = policy_from_json(obj["policy"]), obj["bounds"]
    if not isinstance(bounds, list) or len(bounds) != len(policy.routes):
        raise PolicyFormatError("bounds: not one for each route")
    items = [_item(route, bound) for route, bound in zip(policy.routes, bounds, strict=True)]
    return LivePolicy(tuple(items), policy.version)


def _item(route: Route, bound: object) -> LiveRoute:
    if not isinstance(bound, list) or len(bound) != 3:
        raise PolicyFormatError("bounds: not [until, uses, grant]")
    until, uses, grant = bound
    if until is not None and (type(until) not in (int, float) or not 0 < until < 1e12):
        raise PolicyFormatError("until: not a time in seconds")
    if uses is not None and (type(uses) is not int or not 0 <= uses <= 1_000_000):
        raise PolicyFormatError("uses: not a number from 0 to 1000000")
    if type(grant) is not str or len(grant) > 64 or not grant.isprintable():
        raise PolicyFormatError("grant: not the name of a decision")
    return LiveRoute(route, Bounds(until, uses), grant)


def _holds(item: LiveRoute, now: float) -> bool:
    until, uses = item.bounds
    return (until is None or now < until) and (uses is None or uses > 0)
