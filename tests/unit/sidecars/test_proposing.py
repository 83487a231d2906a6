"""The desk in the bundle: the queue on disk, and those that wait for it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from claude_bottle.policy.live import LivePolicy, live
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.proposals import (
    EGRESS,
    MAX_PENDING,
    REJECTED,
    Answer,
    Asked,
    Proposal,
    Queue,
    TooManyError,
)
from claude_bottle.sidecars.proposed import Proposed
from claude_bottle.sidecars.proposing import Proposing
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.sidecars.reach import Reach

NO = Answer(REJECTED, "d-1", 1.0, "no")


class Standing(NamedTuple):
    """What a desk reads of `Reach`."""

    live: LivePolicy


def asked(host: str) -> Asked:
    return Asked(EGRESS, "w" * 2000, Route(host))


class Desk:
    def __init__(self, path: Path | None = None) -> None:
        self.time = 1.0
        self.proposed = Proposed(Queue(), str(path or ""), lambda: self.time)
        standing = Standing(live(Policy(())))
        self.desk = Proposing(self.proposed, cast(Reach, standing))


def test_who_waits_is_told_of_this_answer_and_of_no_other_change(tmp_path: Path) -> None:
    async def scenario() -> Proposal:
        made = Desk(tmp_path / "proposals.json")
        first, second = (made.desk.ask(asked(name)) for name in ("a.example", "b.example"))
        waiting = asyncio.create_task(made.desk.wait(first.id))
        await asyncio.sleep(0)
        made.proposed.put(made.proposed.with_answers([(second.id, NO)]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        made.proposed.put(made.proposed.with_answers([(first.id, NO)]))
        found = await asyncio.wait_for(waiting, 20)
        made.desk.told(found.id)
        assert made.desk.look()[1] == read_queue(str(tmp_path / "proposals.json"))
        return found

    assert asyncio.run(scenario()).answer == NO


def test_an_answer_that_is_there_needs_no_waiting_and_what_is_gone_has_none() -> None:
    async def scenario() -> None:
        made = Desk()
        ident = made.desk.ask(asked("a.example")).id
        made.proposed.put(made.proposed.with_answers([(ident, NO)]))
        assert (await made.desk.wait(ident)).answer == NO
        with pytest.raises(LookupError):
            await made.desk.wait("p-0000000000")

    asyncio.run(scenario())


def test_a_hundred_thousand_proposals_fill_neither_memory_nor_the_disk(tmp_path: Path) -> None:
    """As slowly as the rate lets an agent ask, and never answered."""
    made, refused = Desk(tmp_path / "proposals.json"), 0
    for number in range(100_000):
        made.time += 7
        try:
            made.desk.ask(asked(f"h{number}.example.org"))
        except TooManyError:
            refused += 1
    assert refused == 100_000 - MAX_PENDING
    assert len(made.desk.look()[1].proposals) == MAX_PENDING
    assert [path.name for path in tmp_path.iterdir()] == ["proposals.json"]
    size = (tmp_path / "proposals.json").stat().st_size
    assert size < MAX_PENDING * 3000
    assert json.loads((tmp_path / "proposals.json").read_bytes())
