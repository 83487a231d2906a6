"""Carries bytes between a caller and a program inside a bottle, so that no descriptor is shared.

Invariant: a slow or stubborn program cannot stop the relay, and when the program has ended, what it had
written is delivered and nothing more is awaited.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from types import FrameType

_CHUNK = 65536
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def forward_signals(child: int) -> None:
    """Passes on what a caller or a terminal sends, to the whole group that the child leads."""

    def forward(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it has just ended: its status is on the way
            os.kill(-child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)


def relay(source: int, sink: int, outputs: tuple[tuple[int, int], ...], program: int) -> None:
    """Copies `source` to `sink` and each (from, to) of `outputs` until the pidfd `program` says it ended.

    `sink` belongs to the program, which may never read it: it is written without blocking. The `to` of an
    output is the caller's: writing there may block, which is how a slow caller slows the program.
    """
    feed = _Feed(source, sink, is_terminal=sink in dict(outputs))
    targets = dict(outputs)
    running = True
    while running or targets:
        events = dict.fromkeys(targets, select.POLLIN)
        if running:
            events[program] = select.POLLIN
            feed.ask_for(events)
        ready = _wait(events, forever=running)
        if not running and not ready:
            return
        for descriptor in [item for item in targets if ready.get(item, 0) & ~select.POLLOUT]:
            if not _deliver(targets[descriptor], _read(descriptor)):
                del targets[descriptor]
        if program in ready:
            running = False
        else:
            feed.go_on(ready)


class _Feed:
    """The caller's input on its way to the program; at most one read is held back."""

    def __init__(self, source: int, sink: int, *, is_terminal: bool) -> None:
        os.set_blocking(sink, False)
        self._source = source
        self._sink = sink
        self._is_terminal = is_terminal  # then the sink is also an output, and never closed
        self._pending = b""
        self._open = True

    def ask_for(self, events: dict[int, int]) -> None:
        if self._pending:
            events[self._sink] = events.get(self._sink, 0) | select.POLLOUT
        elif self._open:
            events[self._source] = select.POLLIN

    def go_on(self, ready: dict[int, int]) -> None:
        if self._pending:
            if ready.get(self._sink, 0) & ~select.POLLIN:
                self._pending = _write_some(self._sink, self._pending)
        elif self._open and self._source in ready:
            self._pending = _read(self._source)
            self._open = bool(self._pending)
            if not self._open and not self._is_terminal:
                os.close(self._sink)  # the program sees the end of its input


def _wait(events: dict[int, int], forever: bool) -> dict[int, int]:
    poll = select.poll()
    for descriptor, mask in events.items():
        poll.register(descriptor, mask)
    return dict(poll.poll(None if forever else 0))


def _deliver(target: int, data: bytes) -> bool:
    """False when there is nothing more to deliver, or nobody to deliver it to."""
    more = bool(data)
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:
            select.select([], [target], [])
        except OSError:
            return False
    return more


def _read(source: int) -> bytes:
    try:
        return os.read(source, _CHUNK)
    except OSError:  # a terminal whose other side has closed answers EIO
        return b""


def _write_some(sink: int, data: bytes) -> bytes:
    try:
        return data[os.write(sink, data) :]
    except BlockingIOError:
        return data
    except OSError:  # the program closed its input: what was meant for it has nowhere to go
        return b""
