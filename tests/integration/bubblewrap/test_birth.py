"""bubblewrap on its way up: what is ended at any moment of it leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap.birth import end_bottle, spawn_bottle
from claude_bottle.backend.bubblewrap.guard import Guard
from claude_bottle.backend.bubblewrap.stage import Stage
from claude_bottle.backend.seccomp import compile_filter
from tests.support.processes import eventually

ARGUMENTS = ["--unshare-user", "--unshare-pid", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc"]
Spawn = Callable[[Guard], tuple[int, int, int, int]]
pytestmark = pytest.mark.needs("bubblewrap")


def is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def spawn(tmp_path: Path) -> Spawn:
    program, bwrap = tmp_path / "filter", shutil.which("bwrap")
    assert bwrap is not None
    program.write_bytes(compile_filter(os.uname().machine))
    return lambda guard: spawn_bottle(bwrap, ARGUMENTS, Stage(), [], str(program), guard)


def test_one_that_is_ended_while_it_is_set_up_leaves_nothing(spawn: Spawn) -> None:
    """Its first process inside waits for bubblewrap by then, and has nobody else to end it."""
    groups = []
    for moment in range(60):
        guard = Guard()
        process, *pipes = spawn(guard)
        time.sleep(moment * 0.0003)
        end_bottle(process, None)
        guard.release()
        groups.append(process)
        for pipe in (*pipes, guard.pidfd):
            os.close(pipe)
    assert eventually(lambda: all(map(is_empty, groups)))


def test_one_whose_keeper_is_killed_while_it_is_set_up_leaves_nothing(spawn: Spawn) -> None:
    """Then the guard ends it, who knew of it before it was let go on."""
    groups = []
    for moment in range(60):
        keeper, told = keeper_that_waits(spawn)
        group = os.read(told, 16)
        time.sleep(moment * 0.0003)
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
        os.close(told)
        groups.append(int(group))
    assert eventually(lambda: all(map(is_empty, groups)))


def keeper_that_waits(spawn: Spawn) -> tuple[int, int]:
    """A process that starts a bottle, and the pipe on which it says the bottle's group."""
    reading, writing = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        try:
            process, *_ = spawn(Guard())
            os.write(writing, str(process).encode())
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    return keeper, reading
