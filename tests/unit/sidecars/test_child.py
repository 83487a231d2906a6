"""A program that serves beside the bundle: what it started ends with it, tied or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from claude_bottle.sidecars.child import Child
from tests.support.processes import eventually

_FORKS = 'sleep 1000 & echo "$!"; wait'


def forked(folder: Path) -> tuple[Child, int]:
    """A program that has forked another, which nothing ties to it."""
    log = folder / "log"
    child = Child(["sh", "-c", _FORKS], str(log))
    assert eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    return child, int(log.read_text())


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"  # its new parent takes its time
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_it_forked_ends_when_it_is_killed(tmp_path: Path) -> None:
    child, other = forked(tmp_path)
    child.kill()
    assert child.status == -signal.SIGKILL
    assert eventually(lambda: is_gone(other))


def test_what_it_forked_ends_when_it_ends(tmp_path: Path) -> None:
    import asyncio

    async def ended() -> tuple[Child, int]:
        child, other = forked(tmp_path)
        over = asyncio.get_running_loop().create_future()
        child.on_exit(lambda: over.set_result(None))
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.wait_for(over, 20)
        return child, other

    child, other = asyncio.run(ended())
    assert child.status == -signal.SIGKILL
    assert eventually(lambda: is_gone(other))


def test_a_second_kill_does_nothing(tmp_path: Path) -> None:
    child, _ = forked(tmp_path)
    child.kill()
    child.kill()
    assert child.status == -signal.SIGKILL
