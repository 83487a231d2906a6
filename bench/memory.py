"""What a tree of processes weighs. Linux: proc(5), smaps_rollup.

Invariant: pages that several processes share are counted in parts (PSS), so nothing counts twice. Where a
process may not be looked into (the keeper is unreadable to its own user, if that is not root), all of its
resident pages count: more than the truth, never less. Another bottle that runs shares Envoy's pages and makes
the figure smaller.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass

_KILO = 1024
_MEGA = 1_000_000


@dataclass(frozen=True, slots=True)
class Weight:
    """Megabytes, by what the processes are called."""

    parts: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def weigh(root: int) -> Weight:
    """The process and all that descend from it. Raises ProcessLookupError where it has ended itself."""
    parts: defaultdict[str, float] = defaultdict(float)
    for pid, name in family(root, processes()):
        try:
            weight = proportional_bytes(pid) / _MEGA
        except (FileNotFoundError, ProcessLookupError):
            if pid == root:
                raise
            continue
        parts[part_name(pid == root, name)] += weight
    return Weight(dict(sorted(parts.items())))


def processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent, name) of everything that runs now."""
    found = {}
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                found[pid] = parse_stat(file.read())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return found


def parse_stat(text: bytes) -> tuple[int, str]:
    """proc_pid_stat(5): the name stands in round brackets and may hold any."""
    before, _, after = text.rpartition(b")")
    return int(after.split()[1]), before.partition(b"(")[2].decode(errors="replace")


def family(root: int, known: dict[int, tuple[int, str]]) -> list[tuple[int, str]]:
    """The root, then its descendants, as (pid, name)."""
    if root not in known:
        return []
    children = [pid for pid, (parent, _) in known.items() if parent == root]
    return [(root, known[root][1]), *(member for child in children for member in family(child, known))]


def part_name(is_root: bool, name: str) -> str:
    """The keeper and the guard that it forks bear the product's name; a bare bubblewrap is its own root."""
    if name == "claude-bottle":
        return "keeper" if is_root else "guard"
    return {"cat": "anchor", "sh": "anchor"}.get(name, name)


def proportional_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return field(file.read(), "Pss")
    except PermissionError:
        with open(f"/proc/{pid}/status") as file:
            return field(file.read(), "VmRSS")


def field(text: str, name: str) -> int:
    """The bytes of a line such as `Pss:    1234 kB`."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * _KILO
    raise ValueError(f"no {name}")
