"""Runs a program elsewhere as if it were here: its input, outputs, signals, terminal and status are our own.

Theory. At the other end of a way, which carries bytes to and fro, `remote.inside` runs; frames go along it
(see `frames`). Any command may be a way: then this is a program. Rules. 1. What comes back is hostile: a byte
out of place ends it all with status 125. 2. When this process goes, however it goes, the way ends, and the
program with it. 3. A signal is passed on at once, whatever input or output is held up.

Arguments: [-t] -- TRANSPORT... Somebody waits for each start, so this loads little.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from claude_bottle.backend.remote.frames import (
    CREDIT,
    DATA,
    END,
    ERR,
    OUT,
    SIGNAL,
    STATUS,
    WINDOW,
    WINDOW_BYTES,
    BadFrame,
    Decoder,
    frame,
    numbered,
    numbers,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    class Way(Protocol):
        """Descriptors to write to and to read from; they are two."""

        there: int
        back: int

        def unwrap(self, data: bytes) -> bytes:
            """What of the bytes that came are frames. Raises BadFrame."""
            ...

        def end(self, *, failed: bool) -> None:
            """`failed`: it ended without a status, and may have to say why."""
            ...


FAILED = 125
_CHUNK = 32 << 10
_SURE_BYTES = 4096  # a pipe that has room has room for these: pipe(7), PIPE_BUF
_HELD_BYTES = 1 << 20
_LAST_WORDS_SECONDS = 5.0
_OUTWARDS = frozenset((OUT, ERR, CREDIT, STATUS))
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Call:
    """One program at the other end of a way."""

    def __init__(self, way: Way) -> None:
        self._there = way.there
        self._back = way.back
        self._unwrap = way.unwrap
        self._decoder = Decoder(_OUTWARDS)
        self._pending = bytearray()  # frames on their way there
        self._held = {1: bytearray(), 2: bytearray()}  # what this process has still to write
        self._credit = WINDOW_BYTES
        self._input = True
        self._status: int | None = None
        self._deaf: set[int] = set()
        os.set_blocking(way.there, False)

    def serve(self, wake: int, terminal: bool) -> int | None:
        """The program's status; None where the way ended without one. Raises BadFrame."""
        if terminal:
            self._pending += _window_frame()
        self._absorb(b"")  # something may have come with the way
        while self._status is None:
            ready = self._wait(wake)
            if wake in ready:
                for number in os.read(wake, 64):
                    self._pending += (
                        _window_frame() if number == signal.SIGWINCH else numbered(SIGNAL, number)
                    )
            for target in (1, 2):
                if target in ready:
                    self._deliver(target)
            if self._there in ready:
                self._send()
            if 0 in ready:
                self._read_input()
            if self._back in ready and not self._absorb(os.read(self._back, _CHUNK)):
                break
        for target in (1, 2):
            while self._held[target]:
                self._deliver(target)
        return self._status

    def _wait(self, wake: int) -> dict[int, int]:
        events = {wake: select.POLLIN}
        events |= {target: select.POLLOUT for target in (1, 2) if self._held[target]}
        if max(map(len, self._held.values())) < _HELD_BYTES:
            events[self._back] = select.POLLIN
        if self._pending:
            events[self._there] = select.POLLOUT
        if self._input and self._credit > 0 and len(self._pending) < WINDOW_BYTES:
            events[0] = select.POLLIN
        poll = select.poll()
        for descriptor, mask in events.items():
            poll.register(descriptor, mask)
        return dict(poll.poll())

    def _read_input(self) -> None:
        try:
            data = os.read(0, min(_CHUNK, self._credit))
        except OSError:  # closed, or a terminal that is another's now
            data = b""
        self._credit -= len(data)
        self._input = bool(data)
        self._pending += frame(DATA, data) if data else frame(END)

    def _send(self) -> None:
        try:
            del self._pending[: os.write(self._there, self._pending)]
        except BlockingIOError:
            pass
        except OSError:  # it has ended; what it said last is on the way
            self._pending.clear()
            self._input = False

    def _absorb(self, data: bytes) -> bool:
        """False at the end of the way."""
        for kind, payload in self._decoder.feed(self._unwrap(data)):
            if self._status is not None:
                raise BadFrame("something after the end")
            if kind == CREDIT:
                self._credit = min(WINDOW_BYTES, self._credit + numbers(payload, 1)[0])
            elif kind == STATUS:
                self._status = min(255, numbers(payload, 1)[0])
            else:
                self._held[1 if kind == OUT else 2] += payload
        return bool(data)

    def _deliver(self, target: int) -> None:
        """Never waits for long: a terminal or a pipe that is ready takes this much."""
        held = self._held[target]
        try:
            del held[: os.write(target, held[:_SURE_BYTES])]
        except BlockingIOError:
            select.select([], [target], [])
        except OSError:  # nobody reads it any more: the program finds out as it would here
            held.clear()
            if target not in self._deaf:
                self._deaf.add(target)
                self._pending += numbered(SIGNAL, signal.SIGPIPE)


def _open_closed() -> None:
    """Standard streams that the caller has closed, so that no pipe takes their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _window_frame() -> bytes:
    from claude_bottle.backend.terminal import get_size

    return numbered(WINDOW, *get_size(0))


def _wake_on_signals(terminal: bool) -> int:
    """A descriptor from which each forwarded signal can be read as its number."""
    wake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (*_FORWARDED, *([signal.SIGWINCH] if terminal else [])):
        signal.signal(number, lambda *_: None)
    return wake


class Spawned:
    """A command whose input and output are the way. Raises OSError where it cannot be started."""

    def __init__(self, transport: list[str]) -> None:
        there, back = os.pipe(), os.pipe()
        self.there, self.back = there[1], back[0]
        self._process = os.posix_spawnp(
            transport[0],
            transport,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, there[0], 0), (os.POSIX_SPAWN_DUP2, back[1], 1)],
            setsid=True,  # a Ctrl-C is for the program at the other end, which gets it as a frame
            setsigdef=(*_FORWARDED, signal.SIGPIPE),
        )
        os.close(there[0])
        os.close(back[1])

    def unwrap(self, data: bytes) -> bytes:
        return data

    def end(self, *, failed: bool) -> None:
        if failed:  # it says itself why it cannot go on, and needs a moment for that
            os.close(self.there)
            select.select([os.pidfd_open(self._process)], [], [], _LAST_WORDS_SECONDS)
        os.kill(self._process, signal.SIGKILL)  # there is nothing more to carry
        os.waitpid(self._process, 0)


def run(open_way: Callable[[], Way], *, terminal: bool) -> int:
    """Raises OSError where there is no way."""
    import contextlib

    _open_closed()
    if terminal:
        _window_frame()  # before anything is started, where there is no terminal
    wake = _wake_on_signals(terminal)
    way = open_way()
    call, status, failed = Call(way), None, False
    with contextlib.ExitStack() as stack:
        if terminal:
            from claude_bottle.backend.terminal import raw

            stack.enter_context(raw(0))
        try:
            status = call.serve(wake, terminal)
            failed = status is None
        except BadFrame as error:
            _say(f"the bottle says what it must not: {error}")
        way.end(failed=failed)
    return FAILED if status is None else status


def _say(text: str) -> None:
    os.write(2, f"claude-bottle: {text}\n".encode(errors="replace"))


def start(arguments: list[str]) -> NoReturn:
    terminal = arguments[0] == "-t"
    try:
        transport = arguments[2 if terminal else 1 :]
        sys.exit(run(lambda: Spawned(transport), terminal=terminal))
    except OSError as error:
        _say(f"cannot enter the bottle: {error}")
    sys.exit(FAILED)
