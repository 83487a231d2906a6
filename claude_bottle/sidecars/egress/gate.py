"""The egress gate: the one listening socket that a bottle sees, a proxy that only opens tunnels.

Invariant: not one byte of a bottle reaches the next stage before its CONNECT target was allowed,
its TLS hello was read whole and names that very target, and the decision stands in the log.

Rules, in the order in which a connection meets them:
- At most `Limits.connections` at once; one more gets 503 "too-many-connections".
- One CONNECT head within `head_seconds`, as strict as `protocol` says; anything else is refused.
- The policy says yes to host and port. An address in place of a name passes only on an opaque
  rule that spells out this very address: there is no name for anybody to check.
- The next stage is reached *before* 200 is said, so a refusal or a failure comes back as a reply
  with a reason (403, 502). For an opaque rule that is the dial itself: an agent can thus cause an
  empty connection to a host it may talk to anyway, and no byte of its own travels on it.
- After 200 the tunnel begins with a whole TLS hello within `hello_seconds`. Its server name is the
  CONNECT host, letter for letter; for an address it is absent. On an opaque rule it hides no second
  name (ECH): nobody behind the gate could check that one. Else a TLS alert, where there is TLS.
- A tunnel on an opaque rule takes one use of a grant that has a number of them.
- The decision is recorded; if that fails the connection ends. Then bytes flow both ways until both
  sides end, nothing moves for the idle limit, or a new policy takes the rule away; and the end is
  recorded with what passed.

What is inside the TLS of an opaque rule is not seen: a server that answers for several hosts there
answers for all of them. Inspection is the default for that reason.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.policy.clienthello import (
    ALERT_ACCESS_DENIED,
    ALERT_UNRECOGNIZED_NAME,
    ClientHello,
    HelloError,
)
from claude_bottle.policy.model import Route
from claude_bottle.sidecars.egress.protocol import (
    ESTABLISHED,
    ConnectRequest,
    HeadReader,
    RefusedError,
    check_literal,
    refusal,
)
from claude_bottle.sidecars.pipelock.protocol import Dialled, Stage, StageError
from claude_bottle.sidecars.relay import IDLE_SECONDS, Tunnel, new_scratch
from claude_bottle.sidecars.sockets import RECEIVE, Acceptor, prepare, read_hello
from claude_bottle.sidecars.visits import Asked, Decide, Judge, Record, Visit, Visits

_ALERTS: Mapping[str, bytes] = {
    "sni-missing": ALERT_UNRECOGNIZED_NAME,
    "sni-mismatch": ALERT_UNRECOGNIZED_NAME,
    "ech-refused": ALERT_ACCESS_DENIED,
    "grant-ended": ALERT_ACCESS_DENIED,
    "hello-malformed": ALERT_ACCESS_DENIED,
    "hello-too-large": ALERT_ACCESS_DENIED,
}
_LINGER_BYTES = 64 * 1024


class Limits(NamedTuple):
    """What one bottle may take of the gate."""

    connections: int = 256
    head_seconds: float = 10.0
    hello_seconds: float = 10.0
    idle_seconds: float = IDLE_SECONDS
    linger_seconds: float = 1.0


_LIMITS = Limits()


class Gate:
    """Serves one bottle. `inspected` and `opaque` open the way on for the two kinds of rule."""

    def __init__(
        self,
        *,
        decide: Decide,
        version: int,
        record: Record,
        inspected: Stage,
        opaque: Stage,
        supervised: bool = False,
        limits: Limits = _LIMITS,
        use: Callable[[Route], None] = lambda route: None,
    ) -> None:
        """`use` counts a tunnel on an opaque rule; it raises LookupError where none is left."""
        self._visits = Visits("egress", decide, version, record)
        self._use = use
        self._inspected = inspected
        self._opaque = opaque
        self._supervised = supervised  # whether a refusal offers to ask for more
        self._limits = limits
        self._scratch = new_scratch()
        self._acceptors: list[Acceptor] = []

    def serve(self, listener: socket.socket) -> None:
        """Serve a listening socket, which becomes the gate's own, from the running loop."""
        limit = self._limits.connections
        self._acceptors.append(Acceptor(listener, self._serve, self._turn_away, limit))

    def set_policy(
        self, decide: Decide, version: int, standing: Decide | None = None, judge: Judge | None = None
    ) -> int:
        """Judge by a new policy from now on; the number of connections that this closes.

        `standing`, if given, says which connections may stay that are there already; `judge`, which of the
        requests in them.
        """
        return self._visits.set_policy(decide, version, standing, judge)

    def carries(self, name: str, asked: Asked, *, alone: bool) -> None:
        """A request was allowed in the connection of this name. Raises LookupError where there is none."""
        self._visits.carries(name, asked, alone=alone)

    async def close(self) -> None:
        """Stop listening and close every tunnel."""
        for acceptor in self._acceptors:
            await acceptor.close()

    async def _serve(self, client: socket.socket) -> None:
        with self._visits.enter() as visit:
            try:
                await self._pass(visit, client)
            except RefusedError as refused:
                await self._refuse(visit, client, refused)
            except HelloError as error:
                await self._refuse(visit, client, RefusedError(0, error.reason, error.detail))
            except StageError as error:
                status = 403 if error.refused else 502
                await self._refuse(visit, client, RefusedError(status, error.reason, error.detail))
            except OSError:
                await self._refuse(visit, client, RefusedError(0, "client-gone", "the connection broke"))
            except asyncio.CancelledError:
                if not visit.judged:
                    self._visits.deny(visit, visit.closing or "stopped", "ended before it was open")
                raise

    async def _pass(self, visit: Visit, client: socket.socket) -> None:
        head = await self._read_head(client)
        if head is None:
            return
        request, rest = head
        route = self._visits.admit(visit, request.host, request.port)
        check_literal(request, route)
        stage = self._inspected if route.inspect else self._opaque
        dialled = await stage(request.host, request.port)
        with dialled.sock:
            visit.address = dialled.address
            if route.inspect:
                await _introduce(visit, dialled.sock)
            await asyncio.get_running_loop().sock_sendall(client, ESTABLISHED)
            hello, first = await read_hello(client, rest, self._limits.hello_seconds)
            visit.sni = hello.sni
            check_hello(request, route, hello)
            self._count(route)
            self._visits.allow(visit)
            await self._relay(visit, client, dialled.sock, first)

    def _count(self, route: Route) -> None:
        if route.inspect:
            return  # its requests are counted
        try:
            self._use(route)
        except LookupError:
            raise HelloError("grant-ended", "the last use of this grant was taken meanwhile") from None

    async def _read_head(self, client: socket.socket) -> tuple[ConnectRequest, bytes] | None:
        """None if the client leaves without a word."""
        loop = asyncio.get_running_loop()
        reader, silent = HeadReader(), True
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                while data := await loop.sock_recv(client, RECEIVE):
                    silent = False
                    if head := reader.feed(data):
                        return head
        except TimeoutError:
            raise RefusedError(408, "head-timeout", "no complete request head in time") from None
        if silent:
            return None
        raise RefusedError(400, "client-gone", "the client left before its request was complete")

    async def _relay(
        self, visit: Visit, client: socket.socket, upstream: socket.socket, first: bytes
    ) -> None:
        tunnel = Tunnel(client, upstream, self._scratch, self._limits.idle_seconds)
        reason = "stopped"
        try:
            reason = await tunnel.run(first)
        finally:
            self._visits.end(visit, visit.closing or reason, tunnel.bytes_up, tunnel.bytes_down)

    async def _refuse(self, visit: Visit, client: socket.socket, refused: RefusedError) -> None:
        try:
            self._visits.deny(visit, refused.reason, refused.detail)
        finally:
            await self._reply(client, self._reply_to(visit, refused))

    def _reply_to(self, visit: Visit, refused: RefusedError) -> bytes:
        if refused.status:
            return refusal(refused, visit.host, visit.port, visit.nearest, supervised=self._supervised)
        return _ALERTS.get(refused.reason, b"")

    async def _reply(self, client: socket.socket, reply: bytes) -> None:
        """Say why, then wait a moment for the client to hang up: closing on unread bytes resets
        the connection, and the reset may overtake the reply."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            async with asyncio.timeout(self._limits.linger_seconds):
                await loop.sock_sendall(client, reply)
                client.shutdown(socket.SHUT_WR)
                left = _LINGER_BYTES
                while left > 0 and (data := await loop.sock_recv(client, RECEIVE)):
                    left -= len(data)

    def _turn_away(self, client: socket.socket) -> None:
        busy = RefusedError(503, "too-many-connections", "this bottle has too many open connections")
        with self._visits.enter() as visit:
            with suppress(OSError):
                client.send(refusal(busy))
            self._visits.deny(visit, busy.reason, busy.detail)


async def _introduce(visit: Visit, stage: socket.socket) -> None:
    """Tells Envoy by what name it shall speak of this connection: version 1 of the PROXY protocol."""
    address, _, port = visit.name.partition(":")
    try:
        words = f"PROXY TCP4 {address} 127.0.0.1 {port} 443\r\n"
        await asyncio.get_running_loop().sock_sendall(stage, words.encode())
    except OSError as error:
        raise StageError("stage-down", f"the next stage does not listen: {error.strerror}") from error


def check_hello(request: ConnectRequest, route: Route, hello: ClientHello) -> None:
    """Raise `HelloError` unless the hello asks for the CONNECT host and for nothing else."""
    if request.literal:
        if hello.sni is not None:
            raise HelloError("sni-mismatch", "a server name on a tunnel to an address")
    elif hello.sni is None:
        raise HelloError("sni-missing", "the TLS hello names no server")
    elif hello.sni != request.host:
        raise HelloError("sni-mismatch", "the TLS hello names another server than CONNECT did")
    if hello.encrypted_name and not route.inspect:
        raise HelloError("ech-refused", "an encrypted server name cannot be checked on an opaque rule")


def unix_stage(path: str) -> Stage:
    """The stage behind a unix socket, such as Envoy's."""

    async def open_stage(host: str, port: int) -> Dialled:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            prepare(sock)
            await asyncio.get_running_loop().sock_connect(sock, path)
        except OSError as error:
            sock.close()
            raise StageError("stage-down", f"the next stage does not answer: {error.strerror}") from error
        except BaseException:
            sock.close()
            raise
        return Dialled(sock, "")

    return open_stage
