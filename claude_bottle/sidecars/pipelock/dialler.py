"""The built-in dialling stage ("firewall"): the only part that opens connections to the outside.

Invariant: a connection leaves only for a host and port that the policy allows when asked once
more, to an address of the one answer that was resolved and checked for it.

Rules:
- It asks its own `decide`; that the gate or Envoy let something through proves nothing here.
- A name is resolved once, here, outside of the bottle, within `resolve_seconds`; an address is
  dialled as the number that was checked. No proxy variable is looked at.
- Only public addresses are dialled (see `protocol`), save for a rule with an `upstream`: there the
  operator's own host and port are dialled in place of what was asked for, and nothing else.
- Each of Envoy's upstream sockets stands for one host or wildcard and one port. What comes in there
  is TLS for such a host, or goes to the rule's upstream. Only inspected rules are served there, and
  only opaque ones to the gate.
- Every dial is recorded with its address before a byte can pass; if that fails, it is hung up.

It holds no secret and reads nothing but hellos; the bytes that it carries are the next stage's TLS.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from claude_bottle.policy.clienthello import HelloError
from claude_bottle.policy.hosts import parse_ip
from claude_bottle.policy.model import Route
from claude_bottle.sidecars.pipelock.protocol import (
    Address,
    Dialled,
    StageError,
    Target,
    check_way,
    choose_addresses,
    host_of_hello,
)
from claude_bottle.sidecars.relay import IDLE_SECONDS, Tunnel, new_scratch
from claude_bottle.sidecars.sockets import Acceptor, prepare, read_hello
from claude_bottle.sidecars.visits import Decide, Record, UnrecordedError, Visit, Visits

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Connect = Callable[[Address, int], Awaitable[socket.socket]]


class DialLimits(NamedTuple):
    connections: int = 512
    resolve_seconds: float = 10.0
    connect_seconds: float = 5.0
    hello_seconds: float = 10.0
    idle_seconds: float = IDLE_SECONDS


_LIMITS = DialLimits()


async def resolve_name(host: str, port: int) -> list[str]:
    """Ask the system's resolver."""
    loop = asyncio.get_running_loop()
    # As bytes: as text Python would load its IDNA tables to encode what is ASCII already.
    found = await loop.getaddrinfo(
        host.encode("ascii"), port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [str(entry[4][0]) for entry in found]


async def connect_address(address: Address, port: int) -> socket.socket:
    """Connect to exactly this address."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare(sock)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


class Dialler:
    """Serves one bottle: `open` for the gate in this process, `serve` for Envoy's sockets."""

    def __init__(
        self,
        *,
        decide: Decide,
        version: int,
        record: Record,
        resolve: Resolve = resolve_name,
        connect: Connect = connect_address,
        limits: DialLimits = _LIMITS,
    ) -> None:
        self._visits = Visits("firewall", decide, version, record)
        self._resolve = resolve
        self._connect = connect
        self._limits = limits
        self._scratch = new_scratch()
        self._acceptors: list[Acceptor] = []

    async def open(self, host: str, port: int) -> Dialled:
        """A connection to an allowed host; raises `StageError`. The tunnel is the caller's."""
        with self._visits.enter() as visit:
            return await self._open(visit, host, port)

    def serve(self, listener: socket.socket, target: Target) -> Acceptor:
        """Serve one of Envoy's upstream sockets until the answer (or the dialler) is closed."""
        acceptor = Acceptor(
            listener, partial(self._serve, target), lambda sock: None, self._limits.connections
        )
        self._acceptors.append(acceptor)
        return acceptor

    def set_policy(self, decide: Decide, version: int) -> int:
        """Judge by a new policy from now on; the number of Envoy's connections that this closes."""
        return self._visits.set_policy(decide, version)

    async def stop(self, acceptor: Acceptor) -> None:
        """Serve that socket no more."""
        self._acceptors.remove(acceptor)
        await acceptor.close()

    async def close(self) -> None:
        """Stop listening and close the connections of Envoy's sockets."""
        for acceptor in self._acceptors:
            await acceptor.close()

    async def _serve(self, target: Target, client: socket.socket) -> None:
        with self._visits.enter() as visit:
            try:
                host, first = await self._asked_for(visit, target, client)
                dialled = await self._open(visit, host, target.port, target)
            except StageError:
                return  # recorded; Envoy answers a connection that closes with 503
            with dialled.sock:
                await self._relay(visit, client, dialled.sock, first)

    async def _asked_for(self, visit: Visit, target: Target, client: socket.socket) -> tuple[str, bytes]:
        if target.upstream is not None:
            return target.host, b""
        visit.host, visit.port = target.host, target.port
        try:
            hello, first = await read_hello(client, b"", self._limits.hello_seconds)
            visit.sni = hello.sni
            return host_of_hello(target, hello), first
        except (HelloError, StageError) as error:
            self._visits.deny(visit, error.reason, error.detail)
            raise StageError(error.reason, error.detail, refused=True) from error
        except OSError as error:
            raise StageError("client-gone", "the connection broke") from error

    async def _open(self, visit: Visit, host: str, port: int, target: Target | None = None) -> Dialled:
        try:
            route = self._visits.admit(visit, host, port)
            check_way(route, target)
            dialled = await self._dial(host, port, route)
        except StageError as error:
            self._visits.deny(visit, error.reason, error.detail)
            raise
        visit.address = dialled.address
        try:
            self._visits.allow(visit)
        except UnrecordedError as error:
            dialled.sock.close()
            raise StageError("log-failed", "the decision cannot be recorded") from error
        return dialled

    async def _dial(self, host: str, port: int, route: Route) -> Dialled:
        own = route.upstream
        if own is not None:
            host, port = own.host, own.port
        answer = [host] if parse_ip(host) else await self._resolve_once(host, port)
        for address in choose_addresses(answer, private_allowed=own is not None):
            try:
                async with asyncio.timeout(self._limits.connect_seconds):
                    sock = await self._connect(address, port)
            except OSError:
                continue
            return Dialled(sock, str(address))
        raise StageError("connect-failed", "no address of the host accepts a connection")

    async def _resolve_once(self, host: str, port: int) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._limits.resolve_seconds):
                return await self._resolve(host, port)
        except TimeoutError:
            raise StageError("dns-timeout", "the resolver does not answer") from None
        except (OSError, UnicodeError):
            raise StageError("dns-failure", "the name cannot be resolved") from None

    async def _relay(
        self, visit: Visit, client: socket.socket, upstream: socket.socket, first: bytes
    ) -> None:
        tunnel = Tunnel(client, upstream, self._scratch, self._limits.idle_seconds)
        reason = "stopped"
        try:
            reason = await tunnel.run(first)
        finally:
            self._visits.end(visit, visit.closing or reason, tunnel.bytes_up, tunnel.bytes_down)
