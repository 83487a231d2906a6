"""A supervise sidecar on a loopback port, and a desk in memory that a test plays the operator at."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from claude_bottle.policy.live import UNBOUNDED, Bounds, LivePolicy, LiveRoute, live
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.proposals import (
    APPROVED,
    Answer,
    Asked,
    Proposal,
    Queue,
    answer,
    ask,
    tell,
)
from claude_bottle.sidecars.supervise.connection import LIMITS, Limits
from claude_bottle.sidecars.supervise.server import Supervise

NOW = 1_900_000_000.0
_T = TypeVar("_T")


class MemoryDesk:
    """The pure queue with a clock of the test's."""

    def __init__(self, *routes: Route) -> None:
        self.live = live(Policy(routes or (Route("known.example.org"),)))
        self.queue = Queue()
        self.time = NOW
        self.full = False
        self._changed = asyncio.Event()

    def ask(self, asked: Asked) -> Proposal:
        if self.full:
            raise OSError(28, "no room")
        self.queue, made = ask(self.queue, asked, self.time)
        self._wake()
        return made

    async def wait(self, ident: str) -> Proposal:
        while True:
            found = self.queue.find(ident)
            if found is None:
                raise LookupError(ident)
            if found.answer is not None:
                return found
            await self._changed.wait()

    def look(self) -> tuple[LivePolicy, Queue]:
        return self.live, self.queue

    def told(self, ident: str) -> None:
        self.queue = tell(self.queue, ident)

    def now(self) -> float:
        return self.time

    # The operator

    def answer(self, ident: str, said: Answer) -> None:
        self.queue = answer(self.queue, ident, said)
        if said.route is not None:
            item = LiveRoute(said.route, said.bounds, said.decision)
            self.live = LivePolicy((*self.live.routes, item), self.live.version + 1)
        self._wake()

    def approve(self, ident: str, bounds: Bounds = UNBOUNDED) -> None:
        found = self.queue.find(ident)
        assert found is not None
        self.answer(ident, Answer(APPROVED, "d-1", self.time, "", found.asked.route, bounds))

    def forget(self) -> None:
        self.queue = Queue()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Sidecar:
    """A server in a thread of its own; what is done to its desk is done on its loop."""

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop, desk: MemoryDesk, ups: list[bool]) -> None:
        self.port = port
        self.desk = desk
        self.ups = ups
        self._loop = loop
        self.faults: list[dict[str, Any]] = []
        self.server: Supervise

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def do(self, act: Callable[[], _T]) -> _T:
        async def acting() -> _T:
            return act()

        return self.run(acting())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@contextmanager
def serving(*routes: Route, limits: Limits = LIMITS) -> Iterator[Sidecar]:
    """An exception that reaches the server's loop fails the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> tuple[Sidecar, Supervise]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        ups: list[bool] = []
        sidecar = Sidecar(listener.getsockname()[1], loop, MemoryDesk(*routes), ups)
        loop.set_exception_handler(lambda _, context: sidecar.faults.append(context))
        server = Supervise(sidecar.desk, "1.2.3", port=sidecar.port, set_up=ups.append, limits=limits)
        server.serve(listener)
        sidecar.server = server
        return sidecar, server

    sidecar, server = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    try:
        yield sidecar
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
    assert sidecar.faults == []
