"""The proposals of a running bottle: the queue, and its file.

Invariant: what is in the queue is in the file first, as a whole, so a bottle that is resumed knows what was
asked and answered. The file is no secret, and whoever reads it takes it for an agent's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from claude_bottle.policy.proposals import Answer, Asked, Proposal, Queue, answer, ask, tell
from claude_bottle.sidecars.queue_file import write_queue


class Proposed:
    """`path` is empty where nothing is kept."""

    def __init__(self, queue: Queue, path: str, now: Callable[[], float]) -> None:
        self.queue = queue
        self._path = path
        self._now = now
        self._waiting: set[asyncio.Future[None]] = set()

    def ask(self, asked: Asked) -> Proposal:
        """Raises TooManyError, OSError."""
        queue, made = ask(self.queue, asked, self._now())
        self.put(queue)
        return made

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
        if queue == self.queue:
            return
        if self._path:
            write_queue(self._path, queue)
        self.queue = queue
        self.wake()

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
