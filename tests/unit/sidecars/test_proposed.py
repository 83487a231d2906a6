"""The queue of a running bottle is in its file before anybody hears of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import EGRESS, REJECTED, Answer, Asked, Queue
from claude_bottle.sidecars.proposed import Proposed
from claude_bottle.sidecars.queue_file import read_queue

ASKED = Asked(EGRESS, "please", Route("a.example.org"))


def test_what_is_asked_and_answered_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "proposals.json")
    proposed = Proposed(Queue(), path, lambda: 5.0)
    made = proposed.ask(ASKED)
    assert read_queue(path) == proposed.queue
    proposed.put(proposed.with_answers([(made.id, Answer(REJECTED, "d-1", 6.0))]))
    proposed.tell(made.id)
    assert read_queue(path) == proposed.queue
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["proposals.json"]


def test_what_cannot_be_written_did_not_happen(tmp_path: Path) -> None:
    proposed = Proposed(Queue(), str(tmp_path / "missing" / "proposals.json"), lambda: 5.0)
    with pytest.raises(OSError):
        proposed.ask(ASKED)
    assert proposed.queue == Queue()


def test_who_waits_hears_of_a_change(tmp_path: Path) -> None:
    async def wait() -> None:
        proposed = Proposed(Queue(), "", lambda: 5.0)
        waiting = [asyncio.create_task(proposed.changed()) for _ in range(2)]
        await asyncio.sleep(0)
        proposed.ask(ASKED)
        await asyncio.wait_for(asyncio.gather(*waiting), 10)

    asyncio.run(wait())


def test_a_file_that_is_of_no_use_is_not_taken_for_an_empty_queue(tmp_path: Path) -> None:
    path = tmp_path / "proposals.json"
    assert read_queue(str(path)) == Queue()  # nobody has asked yet

    def refused(why: str) -> None:
        with pytest.raises(BottleError, match=why):
            read_queue(str(path))

    for text in ("", "[", "{}", '[{"id": "../x"}]', "[" * 100_000, "\xff"):
        path.write_text(text, encoding="latin-1")
        refused("no list of proposals|proposals: not a list|has not exactly the keys")
    with open(path, "wb") as file:
        file.truncate((16 << 20) + 1)
    refused("no plain file of at most 16 MiB")
    path.unlink()
    path.symlink_to("/etc/hostname")
    refused("symbolic links")
    path.unlink()
    os.mkfifo(path)
    refused("no plain file")
    path.unlink()
    path.mkdir()
    refused("no plain file|directory")
