"""bubblewrap on its way up: what is ended at any moment of it leaves nothing."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap.birth import end_bottle, spawn_bottle
from claude_bottle.backend.bubblewrap.stage import Stage
from claude_bottle.backend.seccomp import compile_filter
from tests.support.processes import eventually

ARGUMENTS = ["--unshare-user", "--unshare-pid", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc"]


def is_empty(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.needs("bubblewrap")
def test_one_that_is_ended_while_it_is_set_up_leaves_nothing(tmp_path: Path) -> None:
    """Its first process inside waits for bubblewrap by then, and has nobody else to end it."""
    program, bwrap = tmp_path / "filter", shutil.which("bwrap")
    assert bwrap is not None
    program.write_bytes(compile_filter(os.uname().machine))
    groups = []
    for moment in range(60):
        process, *pipes = spawn_bottle(bwrap, ARGUMENTS, Stage(), [], str(program))
        time.sleep(moment * 0.0003)
        end_bottle(process, None)
        groups.append(process)
        for pipe in pipes:
            os.close(pipe)
    assert eventually(lambda: all(map(is_empty, groups)))
