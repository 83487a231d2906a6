"""Which inspected hosts a policy has, and what lies behind each: pure, and shared by all who must agree.

A `Chain` is one TLS server name that Envoy answers for. An `Outlet` is one upstream socket, which the
dialler serves. Envoy picks a chain by SNI and an outlet by the port in Host; the authorization server
computes the same pair with `find_chain` and `Chain.outlet`.
Invariant: each (host, port) has one outlet, so where a request goes to never depends on its path. A number
that was given to a target is never another's: what Envoy still holds of an older policy leads where it led.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.policy.hosts import matches, parse_ip, specificity
from claude_bottle.policy.model import Policy, Route
from claude_bottle.sidecars.pipelock.protocol import Target


class Outlet(NamedTuple):
    """One upstream socket of Envoy, and where it leads."""

    number: int
    target: Target

    @property
    def name(self) -> str:
        return f"up-{self.number}"

    @property
    def socket(self) -> str:
        return f"{self.name}.sock"


class Chain(NamedTuple):
    """One server name (exact or `*.suffix`) and its outlets, one for each port."""

    host: str
    outlets: tuple[Outlet, ...]

    def outlet(self, port: int) -> Outlet | None:
        return next((outlet for outlet in self.outlets if outlet.target.port == port), None)


def inspected_outlets(policy: Policy, known: Iterable[Outlet] = ()) -> tuple[Outlet, ...]:
    """One outlet for each host and port that an inspected route names, in the order of the policy.

    `known` are all that this bottle has ever had. Raises BottleError.
    """
    targets: dict[tuple[str, int], Target] = {}
    for route in policy.routes:
        if not route.inspect:
            continue
        _require_name(route)
        for port in route.ports:
            target = targets.setdefault((route.host, port), Target(route.host, port, route.upstream))
            if target.upstream != route.upstream:
                raise BottleError(
                    f"{route.origin or 'egress'}: {route.host}:{port} has two different upstreams",
                    "give all routes of one host and port the same `upstream`",
                )
    numbers = {outlet.target: outlet.number for outlet in known}
    fresh = count(max(numbers.values(), default=-1) + 1)
    return tuple(
        Outlet(numbers[target] if target in numbers else next(fresh), target) for target in targets.values()
    )


def inspected_chains(policy: Policy, known: Iterable[Outlet] = ()) -> tuple[Chain, ...]:
    """One chain for each inspected host, with the ports of every wildcard that covers it as well."""
    outlets = inspected_outlets(policy, known)
    hosts = dict.fromkeys(outlet.target.host for outlet in outlets)
    return tuple(Chain(host, _outlets_of(host, outlets)) for host in hosts)


def find_chain(chains: tuple[Chain, ...], server_name: str) -> Chain | None:
    """The chain that Envoy takes for an SNI: the exact name, else the longest suffix."""
    matching = [chain for chain in chains if matches(chain.host, server_name)]
    return min(matching, key=lambda chain: specificity(chain.host), default=None)


def outlets_of(chains: Iterable[Chain]) -> tuple[Outlet, ...]:
    """All that these chains lead to, each once."""
    found = {outlet.number: outlet for chain in chains for outlet in chain.outlets}
    return tuple(found.values())


def _outlets_of(host: str, outlets: tuple[Outlet, ...]) -> tuple[Outlet, ...]:
    # `matches` compares the text of a wildcard as well: "*.a.example.org" lies below "*.example.org".
    covering = [outlet for outlet in outlets if matches(outlet.target.host, host)]
    chosen: dict[int, Outlet] = {}
    for outlet in sorted(covering, key=lambda outlet: specificity(outlet.target.host)):
        chosen.setdefault(outlet.target.port, outlet)
    return tuple(chosen.values())


def _require_name(route: Route) -> None:
    """TLS clients send no server name for an address, so there is nothing to choose a certificate by."""
    if parse_ip(route.host) is not None:
        raise BottleError(
            f"{route.origin or 'egress'}: {route.host} is an address and cannot be inspected",
            "use a host name, or set `inspect: false` for an opaque tunnel",
        )
