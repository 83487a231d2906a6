"""May this go out? The decisions on connections and requests, from a policy snapshot alone.

Invariant: a decision is allowed only when a route that covers host, port and (for requests)
method and path says so; text that cannot be judged with certainty is refused. Every
argument but the policy is hostile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile

from claude_bottle.policy.hosts import InvalidHost, matches, normalise_host, specificity
from claude_bottle.policy.model import Decision, Policy, Route
from claude_bottle.policy.rules import TOKEN, TUNNEL_METHODS, path_problem, path_under
from claude_bottle.policy.snapshot import PolicyFormatError, policy_from_json, policy_to_json

__all__ = [
    "PolicyFormatError",
    "decide_connect",
    "decide_request",
    "merge_routes",
    "policy_from_json",
    "policy_to_json",
    "routes_for",
]

_SHOWN = 4  # how many alternatives a refusal names


def routes_for(policy: Policy, host: str) -> tuple[Route, ...]:
    """The routes that cover a canonical host, in the order in which they are asked.

    Exact hosts come before wildcards, the longest suffix first; within one pattern an inspected route comes
    before an opaque one, so that no tunnel opens past a rule that wants to see the request.
    """
    found = [route for route in policy.routes if matches(route.host, host)]
    return tuple(sorted(found, key=lambda route: (specificity(route.host), not route.inspect)))


def decide_connect(policy: Policy, host: str, port: int) -> Decision:
    """May a connection to `host:port` be opened? The first route that covers both answers."""
    name, candidates, refusal = _covering(policy, host, port)
    if refusal is not None:
        return refusal
    return Decision(True, "allowed", candidates[0], f"{name}:{port} is allowed by {candidates[0].host}")


def decide_request(policy: Policy, host: str, port: int, method: str, path: str) -> Decision:
    """May this request be sent? `path` is the request target, with its query.

    Where the connection would be an opaque tunnel its route answers, as nothing more would be seen.
    Otherwise any inspected route that covers the request allows it.
    """
    name, candidates, refusal = _covering(policy, host, port)
    if refusal is not None:
        return refusal
    if problem := path_problem(path):
        return Decision(False, "path-invalid", detail=problem)
    if not TOKEN.fullmatch(method) or method in TUNNEL_METHODS:
        return Decision(False, "method-not-allowed", detail="the method cannot be allowed on any host")
    if not candidates[0].inspect:
        return Decision(True, "allowed", candidates[0], f"{name}:{port} is an opaque tunnel")
    return _judge(name, [route for route in candidates if route.inspect], method, path.partition("?")[0])


def merge_routes(base: Iterable[Route], over: Iterable[Route]) -> tuple[Route, ...]:
    """All routes of `over`, and those of `base` whose host pattern `over` does not name."""
    winners = tuple(over)
    named = {route.host for route in winners}
    return tuple(route for route in base if route.host not in named) + winners


def _covering(policy: Policy, host: str, port: int) -> tuple[str, tuple[Route, ...], Decision | None]:
    """The canonical host and the routes that cover it with this port, or why there are none."""
    try:
        name = normalise_host(host)
    except InvalidHost as error:
        return "", (), Decision(False, "host-invalid", detail=str(error))
    routes = routes_for(policy, name)
    if not routes:
        return name, (), _no_host(policy, name)
    candidates = tuple(route for route in routes if port in route.ports)
    if candidates:
        return name, candidates, None
    ports = sorted({number for route in routes for number in route.ports})
    detail = f"port {int(port)} is not allowed on {name}; allowed: {_some(map(str, ports))}"
    return name, (), Decision(False, "port-not-allowed", detail=detail, nearest=routes[0])


def _judge(name: str, routes: Sequence[Route], method: str, path: str) -> Decision:
    right_method = [route for route in routes if not route.methods or method in route.methods]
    for route in right_method:
        if not route.paths or any(path_under(prefix, path) for prefix in route.paths):
            return Decision(True, "allowed", route, f"{method} {_short(path)} is allowed on {name}")
    if not right_method:
        allowed = _some(_distinct(routes, lambda route: route.methods))
        detail = f"{method} is not allowed on {name}; allowed: {allowed}"
        return Decision(False, "method-not-allowed", detail=detail, nearest=routes[0])
    allowed = _some(_distinct(right_method, lambda route: route.paths))
    detail = f"{method} {_short(path)} is not allowed on {name}; allowed below: {allowed}"
    nearest = max(right_method, key=lambda route: _shared(route, path))
    return Decision(False, "path-not-allowed", detail=detail, nearest=nearest)


def _shared(route: Route, path: str) -> int:
    """How many segments of a path its best prefix in the route shares."""
    pairs = (zip(prefix.split("/"), path.split("/"), strict=False) for prefix in route.paths)
    return max(sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], each)) for each in pairs)


def _no_host(policy: Policy, name: str) -> Decision:
    """Names the allowed hosts that share the longest suffix with `name`, else all of them."""
    labels = name.split(".")
    for start in range(max(0, len(labels) - 4), len(labels) - 1):
        suffix = "." + ".".join(labels[start:])
        near = [route for route in policy.routes if f".{route.host}".endswith(suffix)]
        if near:
            detail = f"{name} is not allowed; near it: {_some(_hosts(near))}"
            return Decision(False, "host-not-allowed", detail=detail, nearest=near[0])
    others = f"allowed: {_some(_hosts(policy.routes))}" if policy.routes else "no host is"
    return Decision(False, "host-not-allowed", detail=f"{name} is not allowed; {others}")


def _hosts(routes: Iterable[Route]) -> list[str]:
    return list(dict.fromkeys(route.host for route in routes))


def _distinct(routes: Iterable[Route], field: Callable[[Route], tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(value for route in routes for value in field(route)))


def _some(values: Iterable[str]) -> str:
    texts = list(values)
    more = len(texts) - _SHOWN
    return ", ".join(_short(text) for text in texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
