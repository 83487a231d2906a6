"""Processes of this host and what they take, against processes that are really there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_bottle.backend.base import Program
from claude_bottle.backend.processes import field, memory_of, memory_of_group, programs_by, started


@pytest.fixture
def child() -> Iterator[int]:
    code = "held = bytearray(40 << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_a_process_is_found_by_its_mark_and_known_by_its_start(child: int) -> None:
    found = programs_by(lambda folder: "mine" if folder == f"/proc/{child}" else None, {"mine"})
    (program,) = found["mine"]
    assert program.outside == child
    assert program.started == started(Path(f"/proc/{child}/stat").read_text())
    assert int(program.started) > 0


def test_the_number_is_that_of_the_innermost_namespace() -> None:
    text = "Name:\tclaude\nNStgid:\t4711\t12\t2\nNSpid:\t4711\t12\t2\nThreads:\t1\n"
    assert field(text, "NSpid") == ["4711", "12", "2"]
    assert field(text, "Pss") == []


def test_a_name_cannot_pretend_another_start() -> None:
    numbers = " ".join(str(number) for number in range(3, 52))
    assert started(f"4711 (a) b 1 2 3 (c)) S {numbers[2:]}") == "22"


def test_what_is_no_longer_there_or_not_ours_is_left_out() -> None:
    def refuses(folder: str) -> str:
        raise PermissionError(folder)

    assert programs_by(refuses, {"mine"}) == {}
    assert programs_by(lambda _: "other", {"mine"}) == {}


def test_memory_is_what_its_processes_hold(child: int) -> None:
    used = memory_of([Program(1, "1", child)])
    assert used is not None
    assert 40 << 20 < used < 1 << 30
    assert memory_of([]) == 0


def test_a_process_that_has_ended_holds_nothing() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert memory_of([Program(1, "1", ended.pid)]) == 0


@pytest.mark.parametrize(
    ("files", "used"),
    [
        ({"memory.current": "5000\n", "memory.stat": "anon 1\ninactive_file 1000\n"}, 4000),
        (
            {"memory.usage_in_bytes": "5000\n", "memory.stat": "inactive_file 1\ntotal_inactive_file 2000\n"},
            3000,
        ),
        ({"memory.current": "5000\n", "memory.stat": ""}, 5000),
        ({"memory.current": "10\n", "memory.stat": "inactive_file 1000\n"}, 0),
        ({"memory.current": "max\n", "memory.stat": ""}, None),
        ({"memory.current": "5000\n"}, None),
        ({}, None),
    ],
)
def test_a_control_group_counts_without_files_that_may_go(
    tmp_path: Path, files: dict[str, str], used: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert memory_of_group(str(tmp_path)) == used
