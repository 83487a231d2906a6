"""A program that serves beside the bundle, and is started again when it ends.

Invariant: nothing that serves by less is ever started: the bundle's own callable starts it, from the bundle's
snapshot. A start counts when the program answers and the start stands in the log; any other end of it is
another death. While the program is away the record of what is up says so, and who calls it finds nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.child import Child, last_words
from claude_bottle.sidecars.restart import PACE, Attempt, Deaths, Pace, reason_of
from claude_bottle.text import shown

_SAID = 200


class Program(NamedTuple):
    """What is kept up. `start` and `tell` raise OSError."""

    service: str
    name: str
    log: str
    start: Callable[[], Child]
    answers: Callable[[], bool]
    tell: Callable[[Mapping[str, object]], None]  # the log
    set_up: Callable[[bool], None]  # the record of what is up
    seconds: float = 15.0  # until one that does not answer counts as dead
    pace: Pace = PACE


class Supervised:
    """`child` runs already."""

    def __init__(self, program: Program, child: Child) -> None:
        self._program = program
        self._deaths = Deaths()
        self._take(child)

    async def came_up(self) -> None:
        """As `answered`, but one that ends is started once more: its folder may have been moved meanwhile."""
        try:
            await self.answered()
        except BottleError:
            if not self._ended.is_set():
                raise
            self._restarted_early()
            await self.answered()

    def _restarted_early(self) -> None:
        try:
            self._take(self._program.start())
        except OSError as error:
            raise BottleError(f"it could not be started: {error}") from error

    async def answered(self) -> None:
        """Returns when it answers. Raises BottleError where it has ended, or does not for too long."""
        deadline = asyncio.get_running_loop().time() + self._program.seconds
        while not self._program.answers():
            if self._ended.is_set():
                raise BottleError(f"{self._why()}: {last_words(self._program.log)}")
            if asyncio.get_running_loop().time() > deadline:
                raise BottleError(f"it does not answer: {last_words(self._program.log)}")
            await asyncio.sleep(0.003)

    async def keep(self) -> str:
        """Starts it again and again; returns when it gives up, with the reason."""
        while True:
            await self._ended.wait()
            why, said = self._why(), last_words(self._program.log)
            while (attempt := self._died(why, said)) is not None:
                await asyncio.sleep(attempt.pause)
                try:
                    await self._start(attempt)
                    break
                except BottleError as error:
                    self._child.kill()
                    why, said = "it did not come up", error.message
                except OSError as error:
                    self._child.kill()
                    why, said = "it could not be started", str(error)
            else:
                return f"{self._program.name} keeps ending: {why}"

    def kill(self) -> None:
        self._child.kill()

    def _take(self, child: Child) -> None:
        self._child = child
        self._ended = asyncio.Event()
        child.on_exit(self._ended.set)

    async def _start(self, attempt: Attempt) -> None:
        """Raises BottleError or OSError."""
        self._take(self._program.start())
        await self.answered()
        self._program.tell({**self._about(), "event": "sidecar-restarted", "attempt": attempt.number})
        self._program.set_up(True)

    def _died(self, why: str, said: str) -> Attempt | None:
        """Counts it, and says so in the log and in the record of what is up."""
        self._program.set_up(False)
        self._deaths, attempt = self._deaths.another(asyncio.get_running_loop().time(), self._program.pace)
        line: dict[str, object] = {
            **self._about(),
            "event": "sidecar-ended",
            "reason": why,
            "status": self._child.status,
            "said": shown(said, _SAID),
            "attempt": attempt.number if attempt else None,
            "pause": attempt.pause if attempt else None,
            "detail": None if attempt else "it ended too often: so does the bottle",
        }
        with suppress(OSError):  # the start that follows is recorded, or is none
            self._program.tell(line)
        return attempt

    def _about(self) -> dict[str, object]:
        return {"stage": "bundle", "sidecar": self._program.service, "program": self._program.name}

    def _why(self) -> str:
        assert self._child.status is not None, "it has ended"
        return reason_of(self._child.status)
