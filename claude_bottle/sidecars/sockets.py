"""The sockets of a stage: opened, accepted within a limit, and read up to the end of a TLS hello.

Invariant: every accepted socket is non-blocking, is served by one task, and is closed when that
task ends, however it ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from claude_bottle.policy.clienthello import ClientHello, HelloError, HelloReader

RECEIVE = 16 * 1024
BACKLOG = 256
ACCEPT_PAUSE_SECONDS = 0.2


class Acceptor:
    """Serves each connection of a listening socket by a task of its own, so many at once.

    The socket is closed when its task ends, however that is; `turn_away` may answer one too many.
    """

    def __init__(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket], Coroutine[Any, Any, None]],
        turn_away: Callable[[socket.socket], None],
        limit: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._serve = serve
        self._turn_away = turn_away
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._resume()

    async def close(self) -> None:
        """Stop listening and end what is being served. May be called again."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # out of descriptors or memory: the readiness would spin
            self._loop.remove_reader(self._listener.fileno())
            self._pause = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume)
            return
        prepare(sock)
        if len(self._tasks) >= self._limit:
            with sock:
                self._turn_away(sock)
            return
        task = self._loop.create_task(self._serve(sock))
        self._tasks.add(task)
        task.add_done_callback(partial(self._served, sock))

    def _served(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        sock.close()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a connection ended by an error", "exception": error, "task": task}
            self._loop.call_exception_handler(context)


async def read_hello(sock: socket.socket, first: bytes, seconds: float) -> tuple[ClientHello, bytes]:
    """The client's hello, and all bytes read so far, `first` included. Raises `HelloError`."""
    loop = asyncio.get_running_loop()
    reader = HelloReader()
    taken = bytearray(first)
    hello = reader.feed(first)
    try:
        async with asyncio.timeout(seconds):
            while hello is None:
                data = await loop.sock_recv(sock, RECEIVE)
                if not data:
                    raise HelloError("client-gone", "the client left before its TLS hello was complete")
                taken += data
                hello = reader.feed(data)
    except TimeoutError:
        raise HelloError("hello-timeout", "no complete TLS hello in time") from None
    return hello, bytes(taken)


def listen_unix(path: str) -> socket.socket:
    """A private listening socket at a (short, relative) path; a stale one there is replaced."""
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        Path(path).chmod(0o600)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def prepare(sock: socket.socket) -> None:
    """Non-blocking, and without the delay that batches small writes."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
