"""What the dialling stage decides, without touching the network.

Invariant: an address is dialled only if it came from the one answer that was checked, and is
public, or is the operator's own upstream.

Why private addresses are left out of an answer instead of damning all of it: the address that was
checked is the very one that is dialled, so a private one beside a public one gains an attacker
nothing, while networks that add their own (DNS64, unique local addresses) would break honest
names. An answer with nothing public in it is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from claude_bottle.policy.clienthello import ClientHello
from claude_bottle.policy.hosts import is_public_address, matches, parse_ip
from claude_bottle.policy.model import Route, Upstream

MAX_TRIES_PER_FAMILY = 2

Address = IPv4Address | IPv6Address


class StageError(Exception):
    """A stage does not carry this connection on. `refused` tells "may not" from "could not"."""

    def __init__(self, reason: str, detail: str, *, refused: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.refused = refused


class Dialled(NamedTuple):
    """A connected socket, now the receiver's to close, and what it is connected to."""

    sock: socket.socket
    address: str


Stage = Callable[[str, int], Awaitable[Dialled]]  # host, port; raises StageError


class Target(NamedTuple):
    """Where one of Envoy's upstream sockets leads: one rule, one port.

    `host` is exact or `*.suffix`; with `upstream` it is exact, and all goes to the operator's own host.
    """

    host: str
    port: int
    upstream: Upstream | None = None


def choose_addresses(answer: Iterable[str], *, private_allowed: bool) -> tuple[Address, ...]:
    """The addresses of an answer that may be tried, in the resolver's order, a few of each family.

    A few of each, so that a broken family cannot use up the tries of the other.
    """
    found = [_address(text) for text in answer]
    if not found:
        raise StageError("dns-failure", "the name has no address")
    usable = [address for address in found if private_allowed or is_public_address(address)]
    if not usable:
        raise StageError("private-address", "the host has no public address", refused=True)
    tries = {4: MAX_TRIES_PER_FAMILY, 6: MAX_TRIES_PER_FAMILY}
    chosen = []
    for address in dict.fromkeys(usable):
        if tries[address.version]:
            tries[address.version] -= 1
            chosen.append(address)
    return tuple(chosen)


def host_of_hello(target: Target, hello: ClientHello) -> str:
    """The host that Envoy asks for on a target's socket; it must be one that the target is for."""
    if hello.sni is None:
        raise StageError("sni-missing", "the TLS hello names no server", refused=True)
    if not matches(target.host, hello.sni):
        raise StageError("sni-mismatch", "the TLS hello names a server of another rule", refused=True)
    return hello.sni


def check_way(route: Route, target: Target | None) -> None:
    """Inspected rules go through Envoy's sockets, opaque ones come straight from the gate (None).

    Between two policies the parts of a bottle may differ for a moment. A connection that was made
    up by the older one, perhaps with a credential or in clear text, must not take the newer's way.
    """
    if route.inspect != (target is not None) or (target and target.upstream != route.upstream):
        raise StageError("rule-changed", "the rule for this host leads another way now", refused=True)


def _address(text: str) -> Address:
    address = parse_ip(text)
    if address is None:
        raise StageError("dns-failure", "the resolver answered with something that is no address")
    return address
