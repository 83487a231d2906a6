"""What a new rule would open besides what it says: what an operator must see before the answer. Pure.

Invariant: what makes a rule wider than it looks is told as grave; what is told holds for the rule and the
policy that were given, and not for what a request says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from claude_bottle.policy.hosts import is_public_address, matches, parse_ip
from claude_bottle.policy.likeness import FAMOUS, looks_like, readable, scripts
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.routes import decide_connect

_WRITING = ("POST", "PUT", "PATCH", "DELETE")


class Consequence(NamedTuple):
    """`word` is stable, for programs. A grave one is a reason to look twice."""

    word: str
    text: str
    grave: bool = True


def consequences(policy: Policy, route: Route, met: Iterable[str] = ()) -> tuple[Consequence, ...]:
    """Of `route` on top of `policy`. `met` are hosts that the bottle has reached before."""
    before = tuple(dict.fromkeys([*(item.host for item in policy.routes), *met]))
    return (*_of_name(route, before), *_of_address(route), *_of_width(route), *_of_others(policy, route))


def _of_name(route: Route, known: tuple[str, ...]) -> list[Consequence]:
    found, host = [], route.host
    if why := looks_like(host, (*known, *FAMOUS)):
        found.append(Consequence("look-alike", f"{host} {why}"))
    if (seen := readable(host)) != host:
        letters = " and ".join(script.lower() for script in scripts(host))
        found.append(Consequence("punycode", f"{host} stands for {seen} ({letters} letters)"))
    bare = host.removeprefix("*.")
    if not any(host == name or matches(name, bare) for name in known):
        found.append(Consequence("first-seen", f"no rule names {host}, and nothing was reached there", False))
    if host.startswith("*."):
        found.append(Consequence("wildcard", f"every name below {bare}, also those that do not exist yet"))
    return found


def _of_address(route: Route) -> list[Consequence]:
    target = route.upstream.host if route.upstream is not None else route.host
    found = []
    if parse_ip(route.host) is not None:
        found.append(Consequence("address", f"{route.host} is an address: whoever has it is reached"))
    if parse_ip(target) is not None and not is_public_address(target):
        may = (
            "your network" if route.upstream is not None else "no public address, so nothing will be reached"
        )
        found.append(Consequence("private-address", f"{target} is in a private range: {may}"))
    if route.upstream is not None:
        found.append(Consequence("upstream", f"requests go to {route.upstream}"))
    if other := [port for port in route.ports if port != 443]:
        found.append(Consequence("ports", f"not only 443: {', '.join(map(str, other))}"))
    return found


def _of_width(route: Route) -> list[Consequence]:
    if not route.inspect:
        return [
            Consequence("not-inspected", "a tunnel: methods, paths and content are neither seen nor limited")
        ]
    found = []
    writing = [method for method in route.methods or _WRITING if method in _WRITING]
    if not route.methods and not route.paths:
        found.append(Consequence("all-open", "every method on every path"))
    elif not route.methods:
        found.append(Consequence("all-methods", "every method, so also those that write"))
    elif not route.paths:
        found.append(Consequence("all-paths", "every path"))
    if writing:
        found.append(Consequence("data-out", f"data can leave by {', '.join(writing)}", False))
    if route.auth is not None:
        found.append(Consequence("credential", f"{route.auth.secret} is added to every request"))
    return found


def _of_others(policy: Policy, route: Route) -> list[Consequence]:
    """What becomes of rules that stand."""
    found = []
    for other in policy.routes:
        shares = set(other.ports) & set(route.ports)
        if not shares or not (matches(other.host, route.host) or matches(route.host, other.host)):
            continue
        where = other.origin or other.host
        if other.auth is not None and route.auth is None:
            found.append(_beside_credential(other, route, where))
        if (
            other.inspect
            and not route.inspect
            and other.host != route.host
            and matches(other.host, route.host)
        ):
            text = f"goes past {where}, which sees every request to {other.host}"
            found.append(Consequence("past-inspection", text))
    if all(_tunnels(policy, route, port) for port in route.ports):
        found.append(Consequence("open-already", "its host and ports are open already, as a tunnel", False))
    return found


def _beside_credential(other: Route, route: Route, where: str) -> Consequence:
    secret = other.auth.secret if other.auth is not None else ""
    if route.inspect and other.host == route.host:
        text = (
            f"{secret} is added to what {where} allows on this host; what only this rule allows goes without"
        )
        return Consequence("credential", text)
    return Consequence("credential", f"{secret} is added on {other.host} by {where}; here it is not any more")


def _tunnels(policy: Policy, route: Route, port: int) -> bool:
    if route.host.startswith("*"):
        return False
    answer = decide_connect(policy, route.host, port)
    return answer.route is not None and not answer.route.inspect
