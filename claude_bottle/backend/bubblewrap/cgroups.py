"""Limits of a bottle: which hold on this host, and by what. Pure, but for `create` and `remove`.

Invariant: what is shown as a limit is held by the kernel for the whole bottle, unless it says "per process".
Sources: cgroups(7), the kernel's cgroup-v1 and cgroup-v2 documents, getrlimit(2).
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.errors import BottleError

if TYPE_CHECKING:
    from claude_bottle.manifest.model import Limits

DEFAULT_PIDS = 4096
_PERIOD = 100_000  # microseconds
_ENDING_SECONDS = 5.0


class LimitPlan(NamedTuple):
    """Groups to make, values to write there, limits for each process, and what to tell the operator."""

    groups: tuple[str, ...]
    writes: tuple[tuple[str, str], ...]  # (file, value), in order
    rlimits: tuple[tuple[str, int], ...]
    shown: tuple[str, ...]
    wall_time: int | None


def plan_limits(limits: Limits, slug: str, parents: tuple[tuple[str, str], ...]) -> LimitPlan:
    groups = {controller: f"{folder}/claude-bottle-{slug}" for controller, folder in parents}
    pids = limits.pids or DEFAULT_PIDS
    writes: list[tuple[str, str]] = []
    rlimits: list[tuple[str, int]] = [("RLIMIT_CORE", 0)]
    shown: list[str] = []
    if "pids" in groups:
        writes.append((f"{groups['pids']}/pids.max", str(pids)))
        shown.append(f"{pids} processes")
    else:
        rlimits.append(("RLIMIT_NPROC", pids))
        shown.append(f"{pids} processes (rlimit)")
    if limits.memory is not None:
        if "memory" in groups:
            writes += _memory(groups["memory"], limits.memory)
            shown.append(f"{limits.memory >> 20} MiB memory")
        else:
            rlimits.append(("RLIMIT_DATA", limits.memory))
            shown.append(f"{limits.memory >> 20} MiB memory per process only: no cgroup can be had here")
    if limits.cpus is not None:
        if "cpu" in groups:
            writes += _cpu(groups["cpu"], limits.cpus)
            shown.append(f"{limits.cpus:g} cpus")
        else:
            shown.append(f"cpus: the limit of {limits.cpus:g} does NOT hold, no cgroup can be had here")
    if limits.disk is not None:
        rlimits.append(("RLIMIT_FSIZE", limits.disk))
        shown.append(f"{limits.disk >> 20} MiB disk per file only: this backend has no quota")
    if limits.wall_time is not None:
        shown.append(f"{limits.wall_time} s in all")
    return LimitPlan(
        tuple(dict.fromkeys(groups.values())), tuple(writes), tuple(rlimits), tuple(shown), limits.wall_time
    )


def _memory(group: str, size: int) -> list[tuple[str, str]]:
    if _is_unified(group):
        return [(f"{group}/memory.max", str(size)), (f"{group}/memory.swap.max", "0")]
    return [(f"{group}/memory.limit_in_bytes", str(size))]


def _cpu(group: str, cpus: float) -> list[tuple[str, str]]:
    quota = max(1000, int(cpus * _PERIOD))
    if _is_unified(group):
        return [(f"{group}/cpu.max", f"{quota} {_PERIOD}")]
    return [(f"{group}/cpu.cfs_period_us", str(_PERIOD)), (f"{group}/cpu.cfs_quota_us", str(quota))]


def _is_unified(group: str) -> bool:
    return os.path.exists(os.path.join(os.path.dirname(group), "cgroup.controllers"))


def create(plan: LimitPlan) -> None:
    """Makes the groups and sets the limits. Raises BottleError; nothing is left behind then."""
    remove(plan.groups)  # a keeper that was killed has left them
    try:
        for group in plan.groups:
            os.mkdir(group, 0o755)
        for path, value in plan.writes:
            if path.endswith("swap.max") and not os.path.exists(path):
                continue  # a kernel without swap accounting has no swap to limit by
            with open(path, "w") as file:
                file.write(value)
    except OSError as error:
        remove(plan.groups)
        raise BottleError(f"cannot limit the bottle by cgroup: {error}") from error


def remove(groups: tuple[str, ...]) -> None:
    """Removes groups that are there, once their last processes, which were killed, have ended."""
    deadline = time.monotonic() + _ENDING_SECONDS
    for group in groups:
        while not _removed(group) and time.monotonic() < deadline:
            time.sleep(0.002)


def _removed(group: str) -> bool:
    """False where it is worth to try again; what is left after that is found by the next removal."""
    try:
        os.rmdir(group)
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def remains(slug: str, root: str = "/sys/fs/cgroup") -> tuple[str, ...]:
    """Groups of this bottle that a killed keeper left behind."""
    name = f"claude-bottle-{slug}"
    return tuple(os.path.join(folder, name) for folder, folders, _ in os.walk(root) if name in folders)
