"""The authorization server that Envoy asks about every request on an inspected route.

Invariant: a request is allowed only when its Host agrees with its SNI, the policy allows it, the route
that allows it leads to the upstream that Envoy will use, its credential could be had, and the decision
has been recorded. Every other end, an exception included, is a refusal: Envoy takes a closed connection
for "no". The credential is in the answer to Envoy and nowhere else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple, cast

from claude_bottle.errors import BottleError
from claude_bottle.policy.denials import shortened
from claude_bottle.policy.model import Auth, Decision, Route
from claude_bottle.sidecars.egress.authz_protocol import (
    END_OF_HEAD,
    MAX_HEAD,
    AuthzRequest,
    MalformedError,
    parse_request,
    render_allow,
    render_deny,
)
from claude_bottle.sidecars.egress.envoy import auth_header
from claude_bottle.sidecars.egress.outlets import Chain, find_chain

Event = dict[str, object]
Headers = tuple[tuple[str, str], ...]

# Where a credential is added, whatever else could say who is calling is taken away.
CREDENTIAL_HEADERS = (
    "api-key",
    "authorization",
    "cookie",
    "job-token",
    "private-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-goog-api-key",
)


class Judge(NamedTuple):
    """All that an answer depends on. A new policy is a new judge."""

    decide: Callable[[str, int, str, str], Decision]  # (host, port, method, path)
    credential_for: Callable[[Route], Headers | None]
    record: Callable[[Event], None]
    chains: tuple[Chain, ...]
    version: int
    supervised: bool = False  # whether a refusal offers to ask for more
    use: Callable[[Route], None] = lambda route: None  # counts a request; LookupError where none is left
    carried: Callable[[AuthzRequest], None] = lambda request: None  # LookupError where its tunnel is gone

    def answer(self, request: AuthzRequest) -> bytes:
        """The bytes for Envoy, after the decision has been recorded."""
        decision = self._decide(request)
        allow, failure = b"", ""
        if decision.allowed:
            try:
                allow = self._allow(decision.route)
            except Exception as error:  # noqa: BLE001 - whatever a secret's source raises, the answer is no
                # Only our own messages are known to hold no secret.
                failure = error.message if isinstance(error, BottleError) else type(error).__name__
                decision = _refusal(
                    "credential-unavailable", "The credential for this route could not be read on the host."
                )
        if decision.allowed:
            decision = self._counted(request, decision)
        try:
            self.record(self._event(request, decision, failure))
        except OSError:
            decision = _refusal("log-unavailable", "The decision could not be recorded.")
        if decision.allowed:
            return allow
        _, reason, _, detail, nearest = decision
        return render_deny(request, reason, detail, nearest, supervised=self.supervised)

    def _decide(self, request: AuthzRequest) -> Decision:
        chain = find_chain(self.chains, request.sni)
        if chain is None or request.host != request.sni:
            return _refusal(
                "host-mismatch", "Host does not name the server that the TLS session was opened to."
            )
        outlet = chain.outlet(request.port)
        if outlet is None:
            return _refusal("port-not-inspected", f"{chain.host} is not inspected on port {request.port}.")
        if not request.path.startswith("/"):
            return _refusal("path-invalid", "The request path must begin with a slash.")
        decision = self.decide(request.host, request.port, request.method, request.path)
        if not decision.allowed:
            return decision
        route = decision.route
        if route is None or not route.inspect or route.upstream != outlet.target.upstream:
            return _refusal("rule-changed", "The rule that allows this now leads elsewhere.")
        return decision

    def _counted(self, request: AuthzRequest, decision: Decision) -> Decision:
        """A use is gone even where the answer cannot be given then: the count is never too high."""
        try:
            assert decision.route is not None
            self.carried(request)
            self.use(decision.route)
        except LookupError:
            return _refusal("grant-ended", "What allowed this has just ended.")
        return decision

    def _allow(self, route: Route | None) -> bytes:
        if route is None or route.auth is None:
            return render_allow((), ())
        credential = self.credential_for(route) or ()
        # Envoy takes over these names and no others: one that it dropped would leave the client's in place.
        if {name.lower() for name, _ in credential} != {auth_header(route.auth.scheme)}:
            raise ValueError("the credential is not for the header of its route")
        names = {name.lower() for name, _ in credential}
        return render_allow(credential, (name for name in CREDENTIAL_HEADERS if name not in names))

    def _event(self, request: AuthzRequest, decision: Decision, failure: str) -> Event:
        route = decision.route
        return {
            "stage": "inspect",
            "event": "request",
            "policy": self.version,
            "host": request.host,
            "port": request.port,
            "sni": request.sni,
            "method": request.method,
            "path": shortened(request.path),
            "verdict": "allow" if decision.allowed else "deny",
            "reason": decision.reason,
            "detail": decision.detail,
            "failure": failure or None,
            "rule": route.host if route else None,
            "origin": route.origin if route else None,
            "credential": _credential_id(route.auth) if route and route.auth else None,
        }


def _credential_id(auth: Auth) -> str:
    """Names the secret, without the arguments of a command: those may be anything."""
    return auth.secret.kind if auth.secret.kind == "command" else str(auth.secret)


def _refusal(reason: str, detail: str) -> Decision:
    return Decision(False, reason, None, detail)


class AuthzServer:
    """Answers Envoy on a unix socket. Assigning `judge` changes the policy for the next request."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._connections: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listener)

    def close(self) -> None:
        """Stops listening and ends every connection; Envoy then refuses whatever it is asked."""
        if self._server is not None:
            self._server.close()
        for transport in self._connections:
            transport.abort()

    def opened(self, transport: asyncio.Transport) -> None:
        self._connections.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        self._connections.discard(transport)


class _Connection(asyncio.Protocol):
    """One of Envoy's keep-alive connections: a head, an answer, a head, an answer."""

    _transport: asyncio.Transport

    def __init__(self, server: AuthzServer) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.opened(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(END_OF_HEAD)
        if rest or len(head) > MAX_HEAD:
            self._transport.abort()
        elif end:
            self._buffer = b""
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        try:
            request = parse_request(head)
        except MalformedError:
            self._transport.abort()
            return
        self._transport.write(self._server.judge.answer(request))
