"""Counts what all agents have spent and changed, one after the other, in its own time.

Invariant: whoever asks waits for nothing; at most one bottle is entered at a time, none more often than every
15 seconds, and none that has done nothing since. What a bottle does not say is not known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.operations.numbers import Counter, Numbers
from claude_bottle.operations.status import STARTING, WORKING

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context

PAUSE = 15.0  # seconds between two looks at one bottle
_CATCHING_UP = 2.0  # where there was more to read than one look may take
_SHARE = 20  # of the time that a look has taken, it is left alone for this many times as long

Look = Callable[[str, Counter], Numbers]


class Visit(NamedTuple):
    """The last look at a bottle: what it was found to do then, and when it may be looked at again."""

    status: str
    ended: float
    again: float
    more: bool = False


def next_of(statuses: Mapping[str, str], visits: Mapping[str, Visit], now: float) -> str | None:
    """Whose turn it is: who has waited longest, of those that may have done something. Pure."""

    def waits(slug: str, status: str) -> bool:
        visit = visits.get(slug)
        if visit is None:
            return status != STARTING
        return now >= visit.again and (visit.more or status == WORKING or status != visit.status)

    waiting = [slug for slug, status in statuses.items() if waits(slug, status)]
    return min(waiting, key=lambda slug: visits[slug].ended if slug in visits else -1.0, default=None)


class Counting:
    """What is known of the numbers of all agents. To be asked by one thread."""

    def __init__(
        self, context: Context, look: Look | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look or (lambda slug, counter: _entered(context, slug, counter))
        self._clock = clock
        self._numbers: dict[str, Numbers] = {}
        self._counters: dict[str, Counter] = {}
        self._visits: dict[str, Visit] = {}
        self._thread: threading.Thread | None = None

    def look(self, statuses: Mapping[str, str]) -> dict[str, Numbers]:
        """What is known now, by slug. `statuses` are of all that runs. Begins a count where none goes on."""
        if self._thread is None or not self._thread.is_alive():
            self._forget(statuses)
            slug = next_of(statuses, self._visits, self._clock())
            if slug is not None:
                self._begin(slug, statuses[slug])
        return {slug: found for slug, found in list(self._numbers.items()) if slug in statuses}

    def wait(self, seconds: float) -> None:
        """For the count that goes on."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _forget(self, statuses: Mapping[str, str]) -> None:
        for slug in self._visits.keys() - statuses.keys():
            for known in (self._numbers, self._counters, self._visits):
                known.pop(slug, None)

    def _begin(self, slug: str, status: str) -> None:
        counter = self._counters.setdefault(slug, Counter())
        self._thread = threading.Thread(
            target=self._count, args=(slug, status, counter), name="count", daemon=True
        )
        self._thread.start()

    def _count(self, slug: str, status: str, counter: Counter) -> None:
        began = self._clock()
        numbers = Numbers()
        try:
            numbers = self._look(slug, counter)
        except (BottleError, OSError):
            pass  # it has ended, or does not answer: its numbers are not known
        finally:
            ended = self._clock()
            pause = max(_CATCHING_UP if counter.more else PAUSE, (ended - began) * _SHARE)
            first = slug not in self._visits  # it may have come before the workspace was whole
            self._numbers[slug] = numbers
            self._visits[slug] = Visit(status, ended, ended + pause, counter.more or first)


def _entered(context: Context, slug: str, counter: Counter) -> Numbers:
    from claude_bottle.operations import deciding

    bottle, metadata = deciding.running(context, slug)
    return counter.look(bottle, metadata)
