"""A bundle refuses by itself what nobody answers, whatever else happens in the meantime."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import APPROVED, EGRESS, EXPIRED, PENDING, REJECTED, Answer, Asked, Queue
from claude_bottle.sidecars.proposed import Proposed
from claude_bottle.sidecars.queue_file import read_queue

ASKED = Asked(EGRESS, "why", Route("h.example.org"))


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def test_without_patience_the_answer_is_there_when_the_question_is(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "queue")
        proposed = Proposed(Queue(), path, Clock(), 0.0)
        proposed.open()
        assert proposed.ask(ASKED).state == REJECTED
        assert read_queue(path) == proposed.queue
        assert proposed.ask(ASKED).times == 2, "the same no again, and no new question"

    asyncio.run(main())


def test_whoever_waits_is_told_when_the_time_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "queue")
        proposed = Proposed(Queue(), path, time.time, 0.2)
        proposed.open()
        made = proposed.ask(ASKED)
        assert made.state == PENDING
        async with asyncio.timeout(60):
            await proposed.changed()
        found = proposed.queue.find(made.id)
        assert found is not None
        assert found.state == EXPIRED
        assert read_queue(path) == proposed.queue

    asyncio.run(main())


def test_a_restart_gains_no_time(tmp_path: Path) -> None:
    async def main() -> None:
        path, clock = str(tmp_path / "queue"), Clock()
        first = Proposed(Queue(), path, clock, 60.0)
        first.open()
        made = first.ask(ASKED)
        clock.now += 61
        second = Proposed(read_queue(path), path, clock, 60.0)
        second.open()
        found = second.queue.find(made.id)
        assert found is not None
        assert found.state == EXPIRED

    asyncio.run(main())


def test_who_is_asked_for_ever_answers_in_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        clock = Clock()
        proposed = Proposed(Queue(), "", clock)
        proposed.open()
        made = proposed.ask(ASKED)
        clock.now += 1e6
        proposed.put(proposed.with_answers([(made.id, Answer(APPROVED, "d-1", clock.now))]))
        assert proposed.queue.proposals[0].state == APPROVED

    asyncio.run(main())


def test_a_no_that_cannot_be_written_allows_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        folder, clock = tmp_path / "logs", Clock()
        folder.mkdir()
        proposed = Proposed(Queue(), str(folder / "queue"), clock, 60.0)
        proposed.open()
        made = proposed.ask(ASKED)
        (folder / "queue").unlink()
        folder.rmdir()
        clock.now += 61
        proposed.open()
        found = proposed.queue.find(made.id)
        assert found is not None
        assert found.state == PENDING
        folder.mkdir()
        proposed.open()
        assert proposed.queue.proposals[0].state == EXPIRED

    asyncio.run(main())
