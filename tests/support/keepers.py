"""The processes of one bubblewrap bottle, as the host sees them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_bottle.backend.bubblewrap.lock import lock_holder
from claude_bottle.operations.launch import Launched
from tests.support.processes import command_of, descendants

_HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from claude_bottle.backend.bubblewrap.lock import take_lock
lock = take_lock(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of this run directory, and nothing else of a keeper."""
    argv = [sys.executable, "-c", _HOLD, str(Path(__file__).parents[2]), str(run)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def keeper_of(launched: Launched) -> int:
    pid = lock_holder(str(launched.paths.run))
    assert pid, "nobody keeps this bottle"
    return pid


def envoy_of(launched: Launched) -> int | None:
    """Envoy itself, below its bubblewrap; None while it is away."""
    found = [pid for pid in descendants(keeper_of(launched)) if command_of(pid) == "envoy"]
    return found[0] if found else None


def kill(pid: int) -> None:
    """One process that the test started, by its number."""
    os.kill(pid, signal.SIGKILL)


def groups_of(slug: str) -> list[Path]:
    """The kernel's groups that bear the bottle's name."""
    name = f"claude-bottle-{slug}"  # os.walk passes over a group that vanishes meanwhile
    return [Path(top, name) for top, folders, _ in os.walk("/sys/fs/cgroup") if name in folders]
