"""Runs a program elsewhere to its end: what it reads is given, what it writes is gathered.

Rules as in `outside`: what comes back is hostile, and has limits of size and time.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

from claude_bottle.backend.remote.frames import (
    CREDIT,
    DATA,
    END,
    ERR,
    OUT,
    STATUS,
    WINDOW_BYTES,
    BadFrame,
    Decoder,
    frame,
    numbers,
)
from claude_bottle.errors import BottleError
from claude_bottle.proc import Result, TimeOver

FAILED = 125
_CHUNK = 32 << 10
_ERR_BYTES = 1 << 16
_OUTWARDS = frozenset((OUT, ERR, CREDIT, STATUS))


class Stream(Protocol):
    """A connection to `remote.inside`, as a socket has it."""

    def fileno(self) -> int: ...
    def recv(self, count: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...


class Collecting:
    """One run, as it looks from here. Pure."""

    def __init__(self, stdin: bytes, limit: int) -> None:
        self._left = memoryview(stdin)
        self._limit = limit
        self._credit = WINDOW_BYTES
        self._decoder = Decoder(_OUTWARDS)
        self._ended = False
        self._output, self._complaints = bytearray(), bytearray()
        self.pending = bytearray()
        self.status: int | None = None

    def fill(self) -> None:
        """Puts as much input into `pending` as the other side takes by now."""
        while self._left and self._credit > 0 and len(self.pending) < WINDOW_BYTES:
            data = bytes(self._left[: min(_CHUNK, self._credit)])
            self._left = self._left[len(data) :]
            self._credit -= len(data)
            self.pending += frame(DATA, data)
        if not self._left and not self._ended:
            self._ended = True
            self.pending += frame(END)

    def drop_input(self) -> None:
        """Nobody takes it any more; what is said last may still be on its way."""
        self.pending.clear()
        self._left, self._ended = self._left[:0], True

    def take(self, data: bytes) -> None:
        """Raises BadFrame, or BottleError for endless output."""
        for kind, payload in self._decoder.feed(data):
            if self.status is not None:
                raise BadFrame("something after the end")
            if kind == CREDIT:
                self._credit = min(WINDOW_BYTES, self._credit + numbers(payload, 1)[0])
            elif kind == STATUS:
                self.status = min(255, numbers(payload, 1)[0])
            elif kind == OUT:
                self._output += payload
            else:
                self._complaints = (self._complaints + payload)[-_ERR_BYTES:]
        if len(self._output) > self._limit:
            raise BottleError(f"the program said more than {self._limit >> 20} MiB")

    def result(self, status: int) -> Result:
        return Result(status, bytes(self._output), bytes(self._complaints))


def collect(
    stream: Stream, unwrap: Callable[[bytes], bytes], early: bytes, stdin: bytes, timeout: float, limit: int
) -> Result:
    """Status 125 where the transport ended without one. Raises BottleError, OSError. `stream` does not block.

    `unwrap` takes what the transport wraps frames in off what comes; `early` are bytes of frames that it has
    given already.
    """
    run, deadline = Collecting(stdin, limit), time.monotonic() + timeout
    try:
        run.take(early)
        while run.status is None:
            run.fill()
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLIN | (select.POLLOUT if run.pending else 0))
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready or time.monotonic() > deadline:
                raise TimeOver(f"the program did not end within {timeout:.0f} s")
            if ready[0][1] & select.POLLOUT:
                _send(stream, run)
            if ready[0][1] & ~select.POLLOUT:
                data = _receive(stream)
                if not data:
                    return run.result(FAILED)
                run.take(unwrap(data))
    except BadFrame as error:
        raise BottleError(f"the bottle says what it must not: {error}") from error
    return run.result(run.status)


def _send(stream: Stream, run: Collecting) -> None:
    try:
        del run.pending[: stream.send(bytes(run.pending[:_CHUNK]))]
    except BlockingIOError:
        pass
    except ConnectionError:
        run.drop_input()


def _receive(stream: Stream) -> bytes:
    """Nothing where the connection has ended, in order or not."""
    try:
        return stream.recv(_CHUNK)
    except ConnectionError:
        return b""
