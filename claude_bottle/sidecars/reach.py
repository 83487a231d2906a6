"""What a bottle may reach, while it runs: the policy in force, and all that acts by it.

Invariant: gate, dialler and authorization server go by one policy, swapped in one tick of the loop. What is
new is let in only when everything on its way is there; what is gone is refused at once, its tunnels are
closed, and only then Envoy hears of it. A change that fails leaves what was.

Theory. Envoy and the dialler's sockets always serve what is in force, what may still end (a spent grant's)
and what is about to come. So there is one function that makes them fit, after a change, after one that
failed, and after a grant has run out; and what they serve beyond the policy is refused by gate and judge.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.policy.live import LivePolicy, LiveRoute, counted_as
from claude_bottle.policy.model import Policy
from claude_bottle.sidecars.control import FAILED, INVALID, Change, ControlError
from claude_bottle.sidecars.egress.authz import AuthzServer, Judge
from claude_bottle.sidecars.egress.credentials import credentials_from
from claude_bottle.sidecars.egress.envoy import LISTENER_SOCKET, Ways, injected_headers
from claude_bottle.sidecars.egress.gate import Gate, unix_stage
from claude_bottle.sidecars.egress.outlets import Chain, Outlet, inspected_chains, outlets_of
from claude_bottle.sidecars.in_force import InForce
from claude_bottle.sidecars.pipelock.dialler import Dialler

if TYPE_CHECKING:
    from claude_bottle.sidecars.egress.authz_protocol import AuthzRequest
    from claude_bottle.sidecars.egress.certs import CertAndKey
    from claude_bottle.sidecars.egress.serving import Serving
    from claude_bottle.sidecars.sockets import Acceptor
    from claude_bottle.sidecars.visits import Record

_NOTHING = Ways()
_LEAST_SECONDS = 0.001
_LOOK_SECONDS = 5.0  # a clock that was set forward is noticed so late at most


class Surroundings(NamedTuple):
    """What `Reach` needs of its bundle."""

    record: Record  # raises OSError
    listen: Callable[[str], socket.socket]  # raises OSError
    serving: Serving
    ran_out: Callable[[], None]  # called when a grant has
    supervised: bool = False  # whether there is anybody to ask for more


class Reach:
    """Built with what a bottle starts with."""

    def __init__(
        self,
        live: LivePolicy,
        leaves: Mapping[str, CertAndKey],
        credentials: Mapping[str, str],
        around: Surroundings,
    ) -> None:
        self._around = around
        self._leaves = dict(leaves)
        self._credentials = dict(credentials)
        self._in_force = InForce(live, self._ran_out)
        self._known: dict[int, Outlet] = {}  # every outlet that there ever was
        self._sockets: dict[int, Acceptor] = {}
        self._coming = _NOTHING
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._gate: Gate | None = None
        in_force = self._in_force
        self._dialler = Dialler(decide=in_force.connect_standing, version=live.version, record=around.record)
        self.authz = AuthzServer(self._judge())

    @property
    def live(self) -> LivePolicy:
        return self._in_force.live

    def now(self) -> float:
        return self._in_force.now()

    def open(self) -> None:
        """The dialler's sockets, and what Envoy is to serve. Raises BottleError, OSError."""
        chains = _widest((), self._chains_of(self._in_force.standing))
        leaves = {chain.host: self._leaves[chain.host] for chain in chains}
        self._open(chains)
        injected = injected_headers(item.route for item in self.live.routes)
        self._around.serving.told = Ways(chains, leaves, injected)
        self.authz.judge = self._judge()
        self._arm()

    def changed(self, decision: str, version: int) -> None:
        """Writes it down. Raises OSError."""
        line = {"stage": "bundle", "event": "policy-changed", "policy": version, "decision": decision}
        self._around.record(line)

    def open_gate(self, listener: socket.socket) -> None:
        self._gate = Gate(
            decide=self._in_force.connect,
            version=self.live.version,
            record=self._around.record,
            inspected=unix_stage(LISTENER_SOCKET),
            opaque=self._dialler.open,
            supervised=self._around.supervised,
            use=self._in_force.use,
        )
        self._gate.serve(listener)

    async def change(self, change: Change, new: LivePolicy, commit: Callable[[], None]) -> int:
        """Makes `new` the policy; returns how many tunnels that closes. Raises ControlError.

        `commit` is called in the tick in which it takes effect, and may still refuse it.
        """
        leaves = {**change.leaves, **self._leaves}
        chains = self._check(change, new, leaves)
        closed = 0
        try:
            await self._let_in(chains, new, leaves)
            commit()
            self._leaves = leaves
            self._credentials |= change.credentials
            self._in_force.replace(counted_as(new, self.live))
        except (BottleError, OSError) as error:
            raise ControlError(FAILED, getattr(error, "message", None) or str(error)) from error
        finally:
            self._coming = _NOTHING
            closed = self._fit()
        return closed

    def _check(self, change: Change, new: LivePolicy, leaves: Mapping[str, CertAndKey]) -> tuple[Chain, ...]:
        """The chains of the new policy. Raises ControlError; nothing has happened then."""
        policy = Policy(tuple(item.route for item in new.routes), new.version)
        try:
            chains = self._chains_of(policy)
        except BottleError as error:
            raise ControlError(INVALID, error.message) from None
        if lacking := [chain.host for chain in chains if chain.host not in leaves]:
            raise ControlError(INVALID, f"there is no certificate for {lacking[0]}")
        if _secrets(new) - set(self._credentials) - set(change.credentials):
            raise ControlError(INVALID, "a credential of the new policy was not given")
        return chains

    def _chains_of(self, policy: Policy) -> tuple[Chain, ...]:
        """Raises BottleError."""
        return inspected_chains(policy, self._known.values())

    async def _let_in(
        self, chains: tuple[Chain, ...], new: LivePolicy, leaves: Mapping[str, CertAndKey]
    ) -> None:
        """Raises BottleError, OSError."""
        told = self._around.serving.told
        both = _widest(told.chains, chains)
        injected = {*told.injected, *injected_headers(item.route for item in new.routes)}
        ways = Ways(both, {chain.host: leaves[chain.host] for chain in both}, tuple(sorted(injected)))
        if ways != told:
            self._coming = ways
            self._open(both)
            await self._around.serving.let_in(ways)

    def _open(self, chains: tuple[Chain, ...]) -> None:
        """Raises OSError."""
        for outlet in outlets_of(chains):
            self._known[outlet.number] = outlet
            if outlet.number not in self._sockets:
                listener = self._around.listen(outlet.socket)
                self._sockets[outlet.number] = self._dialler.serve(listener, outlet.target)

    def _ran_out(self, gone: tuple[LiveRoute, ...]) -> None:
        """Tunnels are not closed in the middle of a decision."""
        for item in gone:
            line = {"event": "grant-ended", "host": item.route.host, "decision": item.grant}
            with suppress(OSError):  # it ends whether or not that can be told
                self._around.record({"stage": "bundle", "policy": self.live.version, **line})
        asyncio.get_running_loop().call_soon(self._fit)
        self._around.ran_out()

    def _fit(self) -> int:
        """Makes all that acts by the policy fit it; returns how many tunnels that closes."""
        in_force, version = self._in_force, self.live.version
        closed = 0
        if self._gate is not None:
            closed = self._gate.set_policy(
                in_force.connect, version, in_force.connect_standing, in_force.request_standing
            )
        self._dialler.set_policy(in_force.connect_standing, version)
        self._narrow()
        needed = _secrets(self.live)
        self._credentials = {name: value for name, value in self._credentials.items() if name in needed}
        self.authz.judge = self._judge()
        self._arm()
        return closed

    def _narrow(self) -> None:
        """Envoy and the dialler's sockets serve nothing that nobody needs. What they do is refused anyway."""
        coming, told = self._coming, self._around.serving.told
        try:
            standing = self._chains_of(self._in_force.standing)
        except BottleError:  # a spent grant has left by another way than its host goes now
            standing = self._chains_of(self._in_force.policy)
        chains = _widest(standing, coming.chains)
        leaves = {**coming.leaves, **self._leaves}
        injected = tuple(sorted({*told.injected, *coming.injected}))
        with suppress(OSError):  # then it still serves what it did
            self._around.serving.tell(
                Ways(chains, {chain.host: leaves[chain.host] for chain in chains}, injected)
            )
        needed = {outlet.number for outlet in outlets_of(chains)}
        for number in set(self._sockets) - needed:
            with suppress(OSError):
                os.unlink(self._known[number].socket)
            closing = asyncio.get_running_loop().create_task(self._dialler.stop(self._sockets.pop(number)))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _judge(self) -> Judge:
        return Judge(
            decide=self._in_force.request,
            credential_for=credentials_from(self._credentials),
            record=self._around.record,
            chains=self._around.serving.told.chains,
            version=self.live.version,
            supervised=self._around.supervised,
            use=self._in_force.use,
            carried=self._carried,
        )

    def _carried(self, request: AuthzRequest) -> None:
        """Raises LookupError."""
        if self._gate is None:
            raise LookupError(request.peer)
        path = request.path.partition("?")[0]  # no rule looks at a query
        self._gate.carries(request.peer, (request.port, request.method, path), alone=request.plain)

    def _arm(self) -> None:
        """Who asks after an end is told no by the clock alone; the timer closes what is open then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        left = self._in_force.wake_at() - self.now()
        if left != inf:
            delay = min(_LOOK_SECONDS, max(_LEAST_SECONDS, left))
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        if self.now() >= self._in_force.wake_at():
            self._fit()
        else:
            self._arm()


def _secrets(live: LivePolicy) -> set[str]:
    return {str(item.route.auth.secret) for item in live.routes if item.route.auth is not None}


def _widest(old: tuple[Chain, ...], new: tuple[Chain, ...]) -> tuple[Chain, ...]:
    """The chains of both, in order; of two for one host the new one, unless it has only less."""
    found = {chain.host: chain for chain in old}
    for chain in new:
        had = found.get(chain.host)
        if had is None or not set(chain.outlets) <= set(had.outlets):
            found[chain.host] = chain
    return tuple(found[host] for host in sorted(found))
