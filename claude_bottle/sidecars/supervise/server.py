"""Serves MCP to one bottle, on a socket that only that bottle reaches.

Invariant: whatever a client sends, or does not send, costs a bounded time and memory, and ends with an
answer or a closed connection. A call that waits is only a look at a proposal: when its client is gone the
proposal stays. An answer counts as told when it was written to a client that was there.

A session has no state; its name only tells whose call a cancellation means.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.policy.live import in_force
from claude_bottle.policy.proposals import Asked, Proposal, TooManyError
from claude_bottle.sidecars.sockets import Acceptor
from claude_bottle.sidecars.supervise import answers, http, protocol
from claude_bottle.sidecars.supervise.connection import LIMITS, Client, Limits
from claude_bottle.sidecars.supervise.desk import Desk
from claude_bottle.sidecars.supervise.http import HttpError, Request
from claude_bottle.sidecars.supervise.pace import Pace
from claude_bottle.sidecars.supervise.protocol import Call, Cancelled, Ident, Json, Offer, Reply
from claude_bottle.sidecars.supervise.tools import (
    INSTRUCTIONS,
    TOOLS,
    ArgumentError,
    Known,
    Wanted,
    allowed_already,
    read,
)

_EVENT_IDENT = 2048  # characters of the name of an event


class _Waiting(NamedTuple):
    """A call that waits, and the name of its place in the stream."""

    ident: Ident
    proposal: Proposal
    token: Ident | None = None
    primes: bool = False


class Supervise:
    """Serves one bottle. `set_up` is told whether proposals can be written down."""

    def __init__(
        self,
        desk: Desk,
        version: str,
        *,
        port: int,
        set_up: Callable[[bool], None] = lambda up: None,
        limits: Limits = LIMITS,
    ) -> None:
        self._desk = desk
        self._offer = Offer("claude-bottle", version, INSTRUCTIONS, TOOLS)
        self._port = port
        self._set_up = set_up
        self._limits = limits
        self._pace = Pace()
        self._calls: dict[tuple[str, Ident], set[asyncio.Event]] = {}
        self._acceptors: list[Acceptor] = []

    def serve(self, listener: socket.socket) -> None:
        """Serve a listening socket, which becomes the sidecar's own, from the running loop."""
        self._acceptors.append(Acceptor(listener, self._serve, _turn_away, self._limits.connections))
        self._set_up(True)

    async def close(self) -> None:
        for acceptor in self._acceptors:
            await acceptor.close()

    async def _serve(self, sock: socket.socket) -> None:
        client = Client(sock, self._port, self._limits)
        try:
            while (request := await client.request()) is not None:
                await self._answer(client, request)
                if not request.keep:
                    break
        except HttpError as error:
            message = protocol.failure(None, protocol.INVALID_REQUEST, str(error))
            with suppress(OSError):
                await client.last_words(http.response(error.status, message, keep=False))
        except OSError:
            pass  # it is gone, or takes nothing any more; TimeoutError is one

    async def _answer(self, client: Client, request: Request) -> None:
        if request.method == "GET":
            await self._resume(client, request)
        elif request.method == "DELETE":
            self._cancel(request.session, None)
            await client.send(http.response(204, keep=request.keep))
        else:
            await self._post(client, request)

    async def _post(self, client: Client, request: Request) -> None:
        action = protocol.understand(request.body, self._offer, request.version)
        if isinstance(action, Call):
            await self._call(client, request, action)
        elif isinstance(action, Reply):
            # A name for each who shakes hands; one that has a name keeps it.
            named = os.urandom(16).hex() if "serverInfo" in action.message.get("result", {}) else ""
            status = 200 if action.accepted else 400
            await client.send(http.response(status, action.message, keep=request.keep, session=named))
        else:
            if isinstance(action, Cancelled):
                self._cancel(request.session, action.ident)
            await client.send(http.response(202, keep=request.keep))

    async def _call(self, client: Client, request: Request, call: Call) -> None:
        try:
            found = self._look_or_ask(call)
        except ArgumentError as error:
            found = answers.result(f"This cannot be asked: {error}", error=True)
        except TooManyError as error:
            found = answers.result(f"Not asked: {error}. Wait, and ask for less.", error=True)
        except OSError:
            self._set_up(False)
            found = answers.result("Not asked: proposals cannot be written down now.", error=True)
        if isinstance(found, Proposal):
            primes = request.version in protocol.PRIMED
            await self._wait(client, request, _Waiting(call.ident, found, call.token, primes))
        else:
            await client.send(http.response(200, protocol.success(call.ident, found), keep=request.keep))

    def _look_or_ask(self, call: Call) -> answers.Told | Proposal:
        """Raises ArgumentError, TooManyError, OSError."""
        wanted = read(call.tool, call.arguments)
        live, queue = self._desk.look()
        now = self._desk.now()
        if isinstance(wanted, Wanted):
            return answers.of_routes(live, now, wanted.host)
        if isinstance(wanted, Known):
            found = queue.find(wanted.ident)
            if found is None:
                raise ArgumentError(f"there is no proposal {wanted.ident}; ask again")
            return found if found.answer is not None else answers.of_proposal(found)
        assert isinstance(wanted, Asked)
        if wanted.route is not None and allowed_already(in_force(live, now), wanted.route):
            return answers.of_standing(wanted.route)
        self._pace, passes = self._pace.another(now)
        if not passes:
            raise TooManyError("calls come too fast")
        made = self._desk.ask(wanted)
        self._set_up(True)
        return made

    async def _resume(self, client: Client, request: Request) -> None:
        """A client that was cut off waits on, from the last event that it saw."""
        place = _parse_event(request.last_event)
        found = self._desk.look()[1].find(place[0]) if place is not None else None
        if place is None or found is None:
            raise HttpError(405, "there are no events but those of a call that waits")
        await self._wait(client, request, _Waiting(place[1], found))

    async def _wait(self, client: Client, request: Request, waiting: _Waiting) -> None:
        proposal = waiting.proposal
        if proposal.answer is not None or not request.streams:
            message = protocol.success(waiting.ident, answers.of_proposal(proposal))
            there = not client.is_gone()
            if request.method == "GET":  # whose answer is a stream in any case
                await client.send(http.stream_head(keep=request.keep))
                await client.send(http.event(message) + http.STREAM_END)
            else:
                await client.send(http.response(200, message, keep=request.keep))
            self._told(proposal, there)
            return
        key, cancelled = (request.session, waiting.ident), asyncio.Event()
        self._calls.setdefault(key, set()).add(cancelled)
        try:
            await self._stream(client, request, waiting, cancelled)
        finally:
            self._calls[key].discard(cancelled)
            if not self._calls[key]:
                del self._calls[key]

    async def _stream(
        self, client: Client, request: Request, waiting: _Waiting, cancelled: asyncio.Event
    ) -> None:
        """Signs of life until there is an answer, the client is gone, or the call has lasted long enough."""
        place = _event_ident(waiting)
        await client.send(http.stream_head(keep=request.keep))
        if waiting.primes:
            await client.send(http.priming(place))
        loop = asyncio.get_running_loop()
        began = loop.time()
        answered = loop.create_task(_answered(self._desk, waiting.proposal.id))
        ended = loop.create_task(cancelled.wait())
        try:
            while not answered.done():
                seconds = loop.time() - began
                await client.send(_sign_of_life(waiting, place, seconds))
                if seconds >= self._limits.call_seconds:
                    break
                await client.watch((answered, ended), self._limits.beat_seconds)
                if ended.done() and not answered.done():
                    await client.send(http.STREAM_END)  # nothing is said to who does not wait
                    return
            proposal = answered.result() if answered.done() else waiting.proposal
            there = not client.is_gone()  # asked before: one that has its answer may leave at once
            await client.send(http.event(_result(waiting, proposal), place) + http.STREAM_END)
            if proposal is not None:
                self._told(proposal, there)
        finally:
            for task in (answered, ended):
                task.cancel()
            await asyncio.gather(answered, ended, return_exceptions=True)

    def _told(self, proposal: Proposal, there: bool) -> None:
        """Where it cannot be written down the agent may be told once more, which does no harm."""
        if proposal.answer is None or proposal.told or not there:
            return
        with suppress(LookupError, OSError):
            self._desk.told(proposal.id)

    def _cancel(self, session: str, ident: Ident | None) -> None:
        """One call of a session, or all."""
        for (name, call), events in self._calls.items():
            if session and name == session and ident in (None, call):
                for event in events:
                    event.set()


async def _answered(desk: Desk, ident: str) -> Proposal | None:
    try:
        return await desk.wait(ident)
    except LookupError:
        return None


def _result(waiting: _Waiting, proposal: Proposal | None) -> Json:
    if proposal is None:
        gone = answers.result("The proposal was forgotten; ask again.", error=True)
        return protocol.success(waiting.ident, gone)
    return protocol.success(waiting.ident, answers.of_proposal(proposal, waited=True))


def _sign_of_life(waiting: _Waiting, place: str, seconds: float) -> bytes:
    if waiting.token is None:
        return http.comment("waiting for the operator")
    text = f"{waiting.proposal.id} waits for the operator, {seconds:.0f} s"
    return http.event(protocol.progress(waiting.token, round(seconds, 3), text), place)


def _event_ident(waiting: _Waiting) -> str:
    """Names the proposal and the call, so that no memory is needed to go on from here."""
    return f"{waiting.proposal.id}/{json.dumps(waiting.ident).encode().hex()}"


def _parse_event(text: str) -> tuple[str, Ident] | None:
    proposal, slash, call = text.partition("/")
    if not slash or len(text) > _EVENT_IDENT:
        return None
    try:
        ident = json.loads(bytes.fromhex(call))
    except (ValueError, RecursionError):
        return None
    return (proposal, ident) if protocol.is_ident(ident) else None


def _turn_away(sock: socket.socket) -> None:
    message = protocol.failure(None, protocol.INTERNAL_ERROR, "too many connections at once")
    with suppress(OSError):
        sock.send(http.response(503, message, keep=False))
