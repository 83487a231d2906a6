"""The proposals of a running bottle: the queue, and its file.

Invariant: what is in the queue is in the file first, as a whole, so a bottle that is resumed knows what was
asked and answered. The file is no secret, and whoever reads it takes it for an agent's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from claude_bottle.policy.proposals import Answer, Asked, Proposal, Queue, answer, ask, tell
from claude_bottle.policy.unanswered import answer_overdue, next_overdue
from claude_bottle.sidecars.queue_file import write_queue

_LEAST_SECONDS = 0.2
_LOOK_SECONDS = 5.0  # a clock that was set forward is noticed so late at most


class Proposed:
    """`path` is empty where nothing is kept; after `patience` seconds what nobody has answered is refused."""

    def __init__(
        self, queue: Queue, path: str, now: Callable[[], float], patience: float | None = None
    ) -> None:
        self.queue = queue
        self._path = path
        self._now = now
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def open(self) -> None:
        """From now on time is counted, of what an earlier life has left too."""
        self._look()

    def ask(self, asked: Asked) -> Proposal:
        """Raises TooManyError, OSError."""
        queue, made = ask(self.queue, asked, self._now())
        self.put(queue)
        return self.queue.find(made.id) or made

    def tell(self, ident: str) -> None:
        """The agent has been given the answer. Raises LookupError, OSError."""
        self.put(tell(self.queue, ident))

    def with_answers(self, answers: Iterable[tuple[str, Answer]]) -> Queue:
        """Nothing is changed yet. Raises LookupError, AnsweredError."""
        queue = self.queue
        for ident, said in answers:
            queue = answer(queue, ident, said)
        return queue

    def put(self, queue: Queue) -> None:
        """Raises OSError; then the old queue stays."""
        queue = answer_overdue(queue, self._patience, self._now())
        if queue == self.queue:
            return
        if self._path:
            write_queue(self._path, queue)
        self.queue = queue
        self.wake()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = next_overdue(self.queue, self._patience)
        if at is not None:
            delay = min(_LOOK_SECONDS, max(_LEAST_SECONDS, at - self._now()))
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        with suppress(OSError):  # no room for a no: it waits, which allows nothing either
            self.put(self.queue)
        self._arm()

    def wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def changed(self) -> None:
        """Waits for the next change of the queue."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
