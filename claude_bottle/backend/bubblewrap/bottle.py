"""A running bottle of this backend, found by its run directory."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_bottle.backend.base import WORKSPACE, Bottle
from claude_bottle.backend.bubblewrap.argv import enter_argv
from claude_bottle.backend.bubblewrap.guard import end_remains
from claude_bottle.backend.bubblewrap.lock import lock_holder
from claude_bottle.backend.python import PACKAGE_ROOT
from claude_bottle.errors import BottleError
from claude_bottle.proc import Command, Result, Runner
from claude_bottle.state.paths import BottlePaths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_bottle.backend.bubblewrap.keeper_process import KeeperProcess

_STOP_SECONDS = 10.0


class BubblewrapBottle(Bottle):
    """`keeper` is set only in the process that has just launched it."""

    def __init__(
        self, slug: str, paths: BottlePaths, runner: Runner, keeper: KeeperProcess | None = None
    ) -> None:
        self.slug = slug
        self._run = str(paths.run)
        self._runner = runner
        self._keeper = keeper

    def command(self, argv: list[str], *, tty: bool, directory: str = WORKSPACE) -> list[str]:
        return enter_argv(PACKAGE_ROOT, self._run, argv, tty=tty, directory=directory)

    def exec(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        timeout: float = 120.0,
        directory: str = WORKSPACE,
        limit: int = 64 << 20,
    ) -> Result:
        framed = self.command(argv, tty=False, directory=directory)
        return self._runner.run(Command(tuple(framed), stdin=stdin, timeout=timeout, limit=limit))

    def probe(self, questions: bytes, timeout: float) -> Result:
        if self._keeper is None:
            raise BottleError("a bottle is proved by the process that launches it")
        return self._keeper.probe(questions, timeout)

    def control(self, request: Mapping[str, object], timeout: float = 5.0) -> dict[str, Any]:
        from claude_bottle.backend.bubblewrap.control import ask_keeper

        return ask_keeper(self._run, request, timeout)

    def keep(self) -> None:
        if self._keeper is not None:
            self._keeper.keep()
            self._keeper = None

    def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.abandon()
            self._keeper = None
        stop_keeper(self._run)


def stop_keeper(run: str) -> None:
    """Asks the keeper to end, then insists. Raises BottleError if it is there still."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _signal_holder(run, number):
            end_remains(run)
            return
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            if lock_holder(run) == 0:
                end_remains(run)
                return
            time.sleep(0.005)
    raise BottleError("the bottle's keeper does not end", f"its process is {lock_holder(run)}")


def _signal_holder(run: str, number: signal.Signals) -> bool:
    """False where nobody holds the lock. The pidfd is checked against the lock before it is used."""
    holder = lock_holder(run)
    if holder == 0:
        return False
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(holder)
        try:
            if lock_holder(run) == holder:
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)
    return True
