"""One connection of a client: its requests one after the other, and what is written to it.

Invariant: no read and no write lasts longer than its limit, and no more is kept than one request may be long.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, NamedTuple

from claude_bottle.sidecars.sockets import RECEIVE
from claude_bottle.sidecars.supervise import http
from claude_bottle.sidecars.supervise.http import HttpError, Request


class Limits(NamedTuple):
    connections: int = 64
    request_seconds: float = 10.0  # from a request's first byte to its last
    idle_seconds: float = 300.0
    write_seconds: float = 10.0
    beat_seconds: float = 5.0
    call_seconds: float = 50 * 60.0  # then a call ends without an answer; its client gives up after an hour


LIMITS = Limits()


class Client:
    """One connection."""

    def __init__(self, sock: socket.socket, port: int, limits: Limits) -> None:
        self._sock = sock
        self._reader = http.Reader(port)
        self._limits = limits
        self._loop = asyncio.get_running_loop()

    async def request(self) -> Request | None:
        """The next one; None where the client leaves without a word. Raises HttpError, OSError."""
        request = self._reader.next()
        seconds = self._limits.idle_seconds if self._reader.idle else self._limits.request_seconds
        while request is None:
            try:
                async with asyncio.timeout(seconds) as timer:
                    while request is None:
                        was_idle = self._reader.idle
                        data = await self._loop.sock_recv(self._sock, RECEIVE)
                        if not data:
                            return None
                        self._reader.feed(data)
                        request = self._reader.next()
                        if was_idle:
                            timer.reschedule(self._loop.time() + self._limits.request_seconds)
            except TimeoutError:
                if self._reader.idle:
                    return None
                raise HttpError(408, "no whole request in time") from None
        return request

    async def send(self, data: bytes) -> None:
        """Raises OSError, TimeoutError with it."""
        async with asyncio.timeout(self._limits.write_seconds):
            await self._loop.sock_sendall(self._sock, data)

    async def last_words(self, data: bytes) -> None:
        """Then waits a moment for the client to hang up: closing on unread bytes would take them back."""
        async with asyncio.timeout(1.0):
            await self._loop.sock_sendall(self._sock, data)
            self._sock.shutdown(socket.SHUT_WR)
            left = 4 * http.MAX_BODY
            while left > 0 and (more := await self._loop.sock_recv(self._sock, RECEIVE)):
                left -= len(more)

    async def watch(self, tasks: tuple[asyncio.Task[Any], ...], seconds: float) -> None:
        """Until a task is done, or the time is over. Raises OSError when the client is gone."""
        readable: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), _set, readable)
        try:
            await asyncio.wait((*tasks, readable), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_reader(self._sock.fileno())
        if readable.done():
            with suppress(BlockingIOError):
                data = self._sock.recv(RECEIVE)
                if not data:
                    raise ConnectionResetError("the client is gone")
                self._reader.feed(data)  # its next request, ahead of time
        if self._reader.full:
            raise ConnectionResetError("the client does not wait for its answer")

    def is_gone(self) -> bool:
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
