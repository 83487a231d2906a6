"""A signal that tells the dashboard to end: it ends as by its own key, and leaves the terminal as it was.

Invariant: an exception never passes through the event loop, which would be left standing. Only while another
program has the terminal, and the loop waits for it, one is raised; whoever waits has to catch it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class ToldToEnd(BaseException):
    """`status` is that of a shell for a program that this signal has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


@contextmanager
def ends_by_signal(leave: Callable[[int], object]) -> Iterator[None]:
    """`leave` is told the exit status, between any two instructions of the main thread."""
    with _handled(lambda number, _: leave(128 + number)):
        yield


@contextmanager
def raised_by_signal() -> Iterator[None]:
    """For as long as the main thread waits for something else than its loop."""
    with _handled(_raise):
        yield


def _raise(number: int, _: FrameType | None) -> NoReturn:
    raise ToldToEnd(number)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = [(number, signal.signal(number, handler)) for number in _ENDING]
    try:
        yield
    finally:
        for number, former in before:
            signal.signal(number, former)
