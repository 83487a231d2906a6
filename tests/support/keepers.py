"""The processes of one bubblewrap bottle, as the host sees them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from claude_bottle.backend.bubblewrap.entry import lock_holder
from claude_bottle.operations.launch import Launched
from tests.support.processes import command_of, descendants


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
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/claude-bottle-{slug}") if path.is_dir()]
