"""Passes bytes between two sockets, as fast as the loop can.

Invariant: no byte is lost, invented or kept. A socket is read only by whoever serves it just
then, so there is no buffer to hand over; of each direction at most one chunk is in memory, and
a sender is not read while its bytes wait for a slow receiver.

Rules:
- An end of stream passes through by itself; the other direction stays open until it ends too.
- An error on either side ends both directions.
- A tunnel that moves nothing for the idle limit ends. There is no limit on its whole time.

Plain sockets on the loop, not transports: a transport's write may keep a reference to the buffer
that it is given, and its own buffers make both the flow control and a change of hands fragile.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

CHUNK = 256 * 1024
IDLE_SECONDS = 900.0
_IDLE_CHECKS = 8


class Tunnel:
    """The two directions between a client and an upstream; `run` returns why it ended."""

    def __init__(
        self,
        client: socket.socket,
        upstream: socket.socket,
        scratch: memoryview,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`scratch` may be shared by all tunnels of a loop: it is empty between two callbacks."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._idle_seconds = idle_seconds
        self._up = _Flow(self._loop, client, upstream, scratch, self._flow_ended)
        self._down = _Flow(self._loop, upstream, client, scratch, self._flow_ended)

    @property
    def bytes_up(self) -> int:
        return self._up.moved

    @property
    def bytes_down(self) -> int:
        return self._down.moved

    async def run(self, first: bytes = b"") -> str:
        """Relay until both ends are done: "closed", "reset" or "idle".

        `first` is what was already read from the client. The sockets stay the caller's to close.
        """
        self._down.start()
        self._up.start(first)
        self._watch_idle(-1, 0)
        try:
            return await self._ended
        finally:
            self._watch.cancel()
            self._up.stop()
            self._down.stop()

    def _flow_ended(self, reason: str) -> None:
        if not self._ended.done() and (reason != "closed" or (self._up.done and self._down.done)):
            self._ended.set_result(reason)

    def _watch_idle(self, moved: int, checks: int) -> None:
        now = self.bytes_up + self.bytes_down
        checks = 0 if now != moved else checks + 1
        if checks >= _IDLE_CHECKS:
            self._flow_ended("idle")
            return
        wait = self._idle_seconds / _IDLE_CHECKS
        self._watch = self._loop.call_later(wait, self._watch_idle, now, checks)


class _Flow:
    """One direction. It either waits to read the source or to write what is left to the sink."""

    __slots__ = (
        "_ended",
        "_left",
        "_loop",
        "_recv_into",
        "_scratch",
        "_send",
        "_sink",
        "_sink_fd",
        "_source_fd",
        "done",
        "moved",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        scratch: memoryview,
        ended: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._sink = sink
        # Numbers, not sockets: the loop would format the socket into an error for each new one it meets.
        self._source_fd = source.fileno()
        self._sink_fd = sink.fileno()
        self._scratch = scratch
        self._ended = ended
        self._recv_into = source.recv_into
        self._send = sink.send
        self._left: memoryview = memoryview(b"")
        self.moved = 0
        self.done = False

    def start(self, first: bytes = b"") -> None:
        self._left = memoryview(first)[self._try_send(first) :] if first else memoryview(b"")
        if self._left:
            self._loop.add_writer(self._sink_fd, self._writable)
        else:
            self._loop.add_reader(self._source_fd, self._readable)

    def stop(self) -> None:
        self._loop.remove_reader(self._source_fd)
        self._loop.remove_writer(self._sink_fd)

    def _readable(self) -> None:
        try:
            count = self._recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._ended("reset")
            return
        if not count:
            self._end_of_stream()
            return
        sent = self._try_send(self._scratch[:count])
        if sent < count:
            self._left = memoryview(bytes(self._scratch[sent:count]))
            self._loop.remove_reader(self._source_fd)
            self._loop.add_writer(self._sink_fd, self._writable)

    def _writable(self) -> None:
        self._left = self._left[self._try_send(self._left) :]
        if not self._left:
            self._loop.remove_writer(self._sink_fd)
            self._loop.add_reader(self._source_fd, self._readable)

    def _try_send(self, data: memoryview | bytes) -> int:
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._ended("reset")
            return 0
        self.moved += sent
        return sent

    def _end_of_stream(self) -> None:
        self._loop.remove_reader(self._source_fd)
        with suppress(OSError):  # the sink has gone: its own direction notices
            self._sink.shutdown(socket.SHUT_WR)
        self.done = True
        self._ended("closed")


def new_scratch() -> memoryview:
    """The buffer that all tunnels of one loop may share."""
    return memoryview(bytearray(CHUNK))
