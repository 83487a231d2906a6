"""What runs on this host, as /proc tells it, and waiting for a state of it with a bound."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PATIENCE = 15.0  # seconds until what must happen counts as not happening


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether it becomes true within the bound; asked again and again, so a quick machine waits for nothing."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def running_with(word: str) -> list[int]:
    """Processes, this one excepted, that have `word` in their arguments, folder or group. Zombies are gone."""
    found = []
    for pid in all_processes():
        if pid != os.getpid() and any(word in text for text in _facts(pid)):
            found.append(pid)
    return found


def _facts(pid: int) -> Iterable[str]:
    for name in ("cmdline", "cgroup"):
        try:
            yield Path(f"/proc/{pid}/{name}").read_text(errors="replace")
        except OSError:
            return
    try:
        yield os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return


def descendants(pid: int) -> dict[int, str]:
    """All processes below this one, itself included, each with its start time, so that no number is mistaken."""
    parents = {child: parent_of(child) for child in all_processes()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: born for child in found if (born := start_of(child))}


def alive(processes: dict[int, str]) -> dict[int, str]:
    """Those of them that still run."""
    return {pid: born for pid, born in processes.items() if start_of(pid) == born}


def start_of(pid: int) -> str:
    """Empty for a process that is gone or a zombie."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else ""


def parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
