"""A program that is started again when it ends: real programs, small ones, and a quick pace."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.child import Child, last_words
from claude_bottle.sidecars.restart import Bound, Pace
from claude_bottle.sidecars.supervised import Program, Supervised

QUICK = Pace(first=0.01, longest=0.02, calm=60.0, bounds=(Bound(3, 60.0),))
LASTS = "exec sleep 1000"


class Stage:
    """A program that is a shell script, and everything that was said about it."""

    def __init__(self, folder: Path, *scripts: str) -> None:
        self.log = str(folder / "log")
        self._scripts = iter(scripts)
        self.lines: list[Mapping[str, object]] = []
        self.up: list[bool] = []
        self.full = False  # the log's disk
        self.program = Program(
            "egress", "it", self.log, self._start, lambda: True, self._tell, self.up.append
        )
        self.program = self.program._replace(pace=QUICK)
        self.supervised = Supervised(self.program, self._start())

    def _start(self) -> Child:
        self.child = Child(["sh", "-c", next(self._scripts)], self.log)
        return self.child

    def _tell(self, line: Mapping[str, object]) -> None:
        if self.full:
            raise OSError("no room")
        self.lines.append(line)

    def told(self, event: str, key: str) -> list[object]:
        return [line[key] for line in self.lines if line["event"] == event]


async def until(holds: asyncio.Task[str], times: int, stage: Stage) -> None:
    """Until it was started again so often."""
    async with asyncio.timeout(20):
        while len(stage.told("sidecar-restarted", "attempt")) < times:
            assert not holds.done(), holds.result()
            await asyncio.sleep(0.01)


def run(lives: Callable[[Path], Coroutine[Any, Any, None]], folder: Path) -> None:
    asyncio.run(lives(folder))


def test_what_is_killed_is_started_again_and_both_are_told(tmp_path: Path) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, *[f"echo ready; {LASTS}"] * 3)
        supervised = Supervised(
            stage.program._replace(answers=lambda: last_words(stage.log) == "ready"), stage.child
        )
        await supervised.answered()
        keeping = asyncio.create_task(supervised.keep())
        for times in (1, 2):
            os.kill(stage.child.pid, signal.SIGKILL)
            await until(keeping, times, stage)
        keeping.cancel()
        supervised.kill()
        assert stage.told("sidecar-ended", "reason") == ["killed by SIGKILL"] * 2
        assert stage.told("sidecar-ended", "status") == [-9, -9]
        assert stage.told("sidecar-ended", "said") == ["ready", "ready"]
        assert stage.told("sidecar-ended", "attempt") == stage.told("sidecar-restarted", "attempt") == [1, 2]
        assert stage.up == [False, True, False, True]

    run(lives, tmp_path)


@pytest.mark.parametrize("ends", [1, 2])
def test_the_first_one_may_end_once_before_it_answers(tmp_path: Path, ends: int) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, *["exit 3"] * ends, f"echo ready; {LASTS}")
        supervised = Supervised(
            stage.program._replace(answers=lambda: last_words(stage.log) == "ready"), stage.child
        )
        if ends == 1:
            await supervised.came_up()
        else:
            with pytest.raises(BottleError, match="it ended with status 3"):
                await supervised.came_up()
        supervised.kill()
        assert (stage.lines, stage.up) == ([], [])

    run(lives, tmp_path)


def test_what_keeps_ending_is_given_up(tmp_path: Path) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, *["exit 3"] * 9)
        async with asyncio.timeout(20):
            reason = await stage.supervised.keep()
        assert reason == "it keeps ending: it ended with status 3"
        assert stage.told("sidecar-ended", "attempt") == [1, 2, 3, None]
        assert stage.up[-1] is False

    run(lives, tmp_path)


def test_a_program_that_cannot_be_started_is_tried_again_and_given_up(tmp_path: Path) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, "exit 1", *[LASTS] * 9)
        os.unlink(stage.log)
        os.mkdir(stage.log)  # so no other can have it as its output
        async with asyncio.timeout(20):
            reason = await stage.supervised.keep()
        assert reason == "it keeps ending: it could not be started"
        assert (stage.up[-1], True in stage.up) == (False, False)

    run(lives, tmp_path)


def test_one_that_does_not_answer_is_another_death(tmp_path: Path) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, *[LASTS] * 9)
        program = stage.program._replace(answers=lambda: False, seconds=0.05)
        supervised = Supervised(program, stage.child)
        with pytest.raises(BottleError, match="does not answer"):
            await supervised.answered()
        os.kill(stage.child.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            assert await supervised.keep() == "it keeps ending: it did not come up"
        assert stage.child.status == -signal.SIGKILL, "the last one was not left running"
        assert stage.told("sidecar-restarted", "attempt") == []
        assert True not in stage.up

    run(lives, tmp_path)


def test_a_start_that_cannot_be_recorded_does_not_count(tmp_path: Path) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, "exit 1", *[LASTS] * 9)
        stage.full = True
        async with asyncio.timeout(20):
            reason = await stage.supervised.keep()
        assert reason == "it keeps ending: it could not be started"
        assert stage.child.status == -signal.SIGKILL
        assert True not in stage.up

    run(lives, tmp_path)


def test_last_words_are_cut_and_cannot_reach_a_terminal(tmp_path: Path) -> None:
    async def lives(folder: Path) -> None:
        stage = Stage(folder, r"printf '\033]0;x\007%0999d\n' 7; exit 1", *["exit 1"] * 9)
        async with asyncio.timeout(20):
            await stage.supervised.keep()
        (said, *_) = stage.told("sidecar-ended", "said")
        assert isinstance(said, str)
        assert said.startswith("\\x1b]0;x\\x070")
        assert len(said) <= 200

    run(lives, tmp_path)
