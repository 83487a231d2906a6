"""The proposals of all running bottles, looked at again and again; each is asked only where it may have news.

Invariant: what is listed was said by its bottle's sidecars at the last time that they were asked. Where they
do not answer, a warning stands for their proposals: nobody is to answer what may not be there any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.operations.hint import Glimpse, glimpse
from claude_bottle.operations.proposals import Listing, Said, Whose, ask_all, listed

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context

SECONDS = 3.0  # for one answer
_ANYWAY = 15.0  # after which a bottle is asked whose file has not changed
_FAR = 5.0  # where its file is not at hand
_AGAIN = 5.0  # where it did not answer
_AT_ONCE = 32


class _Known(NamedTuple):
    """What a bottle said, and how things stood just before it was asked."""

    said: Said
    before: Glimpse


class Asking:
    """To be asked by one thread, which it holds up for `seconds` at most."""

    def __init__(self, context: Context, seconds: float = SECONDS) -> None:
        self._context = context
        self._seconds = seconds
        self._known: dict[str, _Known] = {}

    def look(self, bottles: Iterable[tuple[str, str, str]]) -> Listing:
        """All that waits for an answer in these bottles (slug, agent, backend), the oldest first."""
        everything = [Whose(*bottle) for bottle in bottles]
        deadline = time.monotonic() + self._seconds
        now = {whose.slug: glimpse(self._context.home.bottle(whose.slug)) for whose in everything}
        due = [whose for whose in everything if self._is_due(whose, now[whose.slug])]
        for start in range(0, len(due), _AT_ONCE):
            part, left = due[start : start + _AT_ONCE], deadline - time.monotonic()
            if start and left < self._seconds / 2:
                break  # the others have their turn, and their time, at the next look
            for slug, said in ask_all(self._context, part, left).items():
                self._known[slug] = _Known(said, now[slug])
        self._known = {slug: known for slug, known in self._known.items() if slug in now}
        return listed(known.said for known in self._known.values())

    def _is_due(self, whose: Whose, now: Glimpse) -> bool:
        known = self._known.get(whose.slug)
        if known is None:
            return True
        if known.said.warning:
            return now.at - known.before.at >= _AGAIN
        return now.calls_for_asking(known.before, _ANYWAY if self._is_at_hand(whose) else _FAR)

    def _is_at_hand(self, whose: Whose) -> bool:
        from claude_bottle.backend import load_backend

        return load_backend(whose.backend).logs_at_hand(self._context.home.bottle(whose.slug))
