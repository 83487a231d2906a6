"""Shows a bottle's terminal on the operator's own, until claude ends or the operator leaves.

Invariant: however this ends, but for SIGKILL, the operator's terminal is as it was: its modes, its screen,
and nothing in its input that a mouse or a terminal said meanwhile.
"""

from __future__ import annotations

import enum
import os
import select
import signal
import socket
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from claude_bottle.backend.remote.frames import (
    AGAIN,
    DATA,
    OUT,
    STATUS,
    WINDOW,
    BadFrame,
    Decoder,
    frame,
    numbered,
    numbers,
)
from claude_bottle.operations.session.door import FROM_HOLDER
from claude_bottle.operations.session.filter import Filter
from claude_bottle.operations.session.keys import DETACH, Keys

_CHUNK = 16 << 10
_PENDING_BYTES = 256 << 10
_WORDS_BYTES = 64 << 10


class How(enum.Enum):
    ENDED = "claude ended"
    DETACHED = "the operator left"
    SUSPENDED = "the operator left, and will be back"
    AGAIN = "the bottle was launched again, and another holder has its terminal"
    LOST = "the holder has let go of this terminal, or is gone"


class Outcome(NamedTuple):
    """`status` is claude's, where it ended; `words` are what the holder had to say."""

    how: How
    status: int = 1
    words: str = ""


def look(connection: socket.socket) -> Outcome:
    """On standard input and output, which are a terminal."""
    from claude_bottle.backend.terminal import raw

    view = _View(connection)
    with _woken_by_resizing() as wake, raw(0):
        try:
            return view.serve(wake)
        finally:
            view.give_back()


class _View:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._decoder = Decoder(FROM_HOLDER)
        self._filter = Filter()  # once more, as it knows what has to be taken back
        self._keys = Keys()
        self._pending = bytearray()
        self._words = b""

    def serve(self, wake: int) -> Outcome:
        self._pending += _window()
        while True:
            ready = self._wait(wake)
            if wake in ready:
                os.read(wake, 64)
                self._pending += _window()
            if 0 in ready and (left := self._type()):
                return left
            if self._connection.fileno() in ready and (ended := self._hear()):
                return ended
            if self._pending:
                self._send()

    def give_back(self) -> None:
        with suppress(OSError, termios.error):  # it is gone
            _write(self._filter.leaving())
            termios.tcdrain(1)
            termios.tcflush(0, termios.TCIFLUSH)

    def _wait(self, wake: int) -> dict[int, int]:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        if len(self._pending) < _PENDING_BYTES:
            poll.register(0, select.POLLIN)
        poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._pending else 0))
        return dict(poll.poll())

    def _type(self) -> Outcome | None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        typed, key = self._keys.feed(data)
        if typed:
            self._pending += frame(DATA, typed)
        if key or not data:
            self._send()
            return Outcome(How.DETACHED if key in (DETACH, b"") else How.SUSPENDED)
        return None

    def _send(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):  # then it is read why
            del self._pending[: self._connection.send(self._pending)]

    def _hear(self) -> Outcome | None:
        try:
            data = self._connection.recv(_CHUNK)
            for kind, payload in self._decoder.feed(data):
                if kind == OUT:
                    _write(self._filter.feed(payload))
                elif kind == STATUS:
                    return Outcome(How.ENDED, min(255, numbers(payload, 1)[0]), self._said)
                elif kind == AGAIN:
                    return Outcome(How.AGAIN, words=self._said)
                else:
                    self._words = (self._words + payload)[:_WORDS_BYTES]
        except BlockingIOError:
            return None
        except (ConnectionResetError, BadFrame):
            data = b""
        return None if data else Outcome(How.LOST, words=self._said)

    @property
    def _said(self) -> str:
        return self._words.decode(errors="replace")


def _window() -> bytes:
    from claude_bottle.backend.terminal import get_size

    return numbered(WINDOW, *get_size(0))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


@contextmanager
def _woken_by_resizing() -> Iterator[int]:
    """A descriptor that can be read from when the terminal's size has changed."""
    wake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    waker = signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGWINCH, before)
        os.close(wake)
        os.close(wakes)
