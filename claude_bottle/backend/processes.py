"""Which processes of this host belong to which bottle, and what memory they take: proc(5), cgroups(7).

Invariant: a process belongs to a bottle by what the kernel says of it (its namespace, its control group),
never by a name or a number that it could choose. What cannot be read is not known; no guess stands for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable
from contextlib import suppress

from claude_bottle.backend.base import Program

_KILO = 1024


def programs_by(mark: Callable[[str], str | None], wanted: Container[str]) -> dict[str, list[Program]]:
    """All processes of the host whose mark is wanted, by their mark; `mark` is given a folder of /proc."""
    found: dict[str, list[Program]] = {}
    for number in filter(str.isdecimal, os.listdir("/proc")):
        folder = f"/proc/{number}"
        with suppress(OSError):  # it has just ended, or is none of ours
            marked = mark(folder)
            if marked is not None and marked in wanted:
                found.setdefault(marked, []).append(_program(folder, int(number)))
    return found


def _program(folder: str, number: int) -> Program:
    inner = field(read(f"{folder}/status"), "NSpid") or [str(number)]
    return Program(int(inner[-1]), started(read(f"{folder}/stat")), number)


def started(stat: str) -> str:
    """proc_pid_stat(5), field 22; the name before stands in round brackets and may hold any."""
    return stat.rpartition(")")[2].split()[19]


def field(text: str, name: str) -> list[str]:
    """The words of a line such as `NSpid:  4711  2`."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.split()
    return []


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def memory_of_group(folder: str) -> int | None:
    """What a control group uses, without files that the kernel may drop: as engines count it."""
    for used, cached in (
        ("memory.current", "inactive_file"),
        ("memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):
            total = int(read(f"{folder}/{used}"))
            pairs = (line.partition(" ") for line in read(f"{folder}/memory.stat").splitlines())
            idle = next((int(value) for key, _, value in pairs if key == cached), 0)
            return max(0, total - idle)
    return None


def memory_of(programs: Iterable[Program]) -> int | None:
    """The proportional part of what these processes hold; None where one of them may not be looked into."""
    total = 0
    for program in programs:
        try:
            words = field(read(f"/proc/{program.outside}/smaps_rollup"), "Pss")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        except OSError:
            return None
        total += int(words[0]) * _KILO if words else 0
    return total
