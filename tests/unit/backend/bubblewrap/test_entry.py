"""The way into a running bottle: what is written of it, and that nothing else is taken for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.bubblewrap import entry
from claude_bottle.backend.bubblewrap.entry import (
    Facts,
    NotRunning,
    _environment_of,
    open_doors,
    parse,
    read_facts,
    render,
    start_time,
)
from claude_bottle.backend.bubblewrap.lock import ENTRY
from tests.support.keepers import held

NUMBERS = st.integers(min_value=1, max_value=1 << 22)
FOLDERS = st.from_regex(r"/sys/fs/cgroup(/[a-zA-Z0-9_.@-]+( [a-z]+)?){0,4}", fullmatch=True)
FACTS = st.builds(
    Facts,
    init=NUMBERS,
    born=st.integers(min_value=0).map(str),
    anchor=NUMBERS,
    anchor_born=st.integers(min_value=0).map(str),
    cgroups=st.lists(FOLDERS, max_size=4).map(tuple),
    rlimits=st.lists(st.tuples(st.sampled_from(["RLIMIT_CORE", "RLIMIT_DATA"]), NUMBERS), max_size=3).map(
        tuple
    ),
)
WHOLE = Facts(7, "1234", 8, "1240", ("/sys/fs/cgroup/a b",), (("RLIMIT_CORE", 0),))


@given(FACTS)
def test_what_is_written_is_read(facts: Facts) -> None:
    assert parse(render(facts)) == facts


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("init 7 1234\n", id="cut-short"),
        pytest.param("anchor 8 1240\n", id="no-init"),
        pytest.param("init 7\nanchor 8 1240\n", id="no-start-time"),
        pytest.param("init 7 1234\nanchor 8\n", id="no-anchor-start-time"),
        pytest.param("init seven 1234\nanchor 8 1240\n", id="no-number"),
        pytest.param("init 7 1234\nanchor 8 1240\nrlimit RLIMIT_CORE\n", id="no-limit"),
        pytest.param("init 7 1234\nanchor 8 1240\nrlimit RLIMIT_CORE much\n", id="no-limit-number"),
        pytest.param("\0\0\0\n", id="garbage"),
    ],
)
def test_a_damaged_entry_is_no_entry(text: str) -> None:
    with pytest.raises(NotRunning, match="damaged"):
        parse(text)


@given(st.integers(min_value=0, max_value=len("init 7 1234\nanchor 8 1240")))
def test_no_part_of_the_first_two_lines_can_be_missing(length: int) -> None:
    """A file that was cut is refused, or says what it would say as a whole up to digits of a start time."""
    try:
        facts = parse(render(WHOLE)[:length])
    except NotRunning:
        return
    assert (facts.init, facts.born, facts.anchor) == (7, "1234", 8)
    assert "1240".startswith(facts.anchor_born)


def test_a_bottle_that_nobody_keeps_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="keeper is gone"):
        read_facts(str(tmp_path))


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of `tmp_path`."""
    with held(tmp_path) as process:
        yield process


def test_a_bottle_that_still_starts_cannot_be_entered(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(NotRunning, match="still starting"):
        open_doors(str(tmp_path))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        pytest.param(Facts(os.getpid(), "1", os.getpid(), "1"), "first process is gone", id="number-reused"),
        pytest.param(Facts(1 << 22, "1", 1 << 22, "1"), "just ended", id="no-such-process"),
    ],
)
def test_a_process_number_alone_opens_nothing(
    tmp_path: Path, holder: subprocess.Popen[bytes], facts: Facts, why: str
) -> None:
    (tmp_path / ENTRY).write_text(render(facts))
    with pytest.raises(NotRunning, match=why):
        open_doors(str(tmp_path))


def test_an_anchor_whose_number_was_reused_opens_nothing(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    """Else a stranger's environment would be shown inside."""
    (tmp_path / "seccomp.bpf").write_bytes(b"")
    own = start_time(os.getpid())
    (tmp_path / ENTRY).write_text(render(Facts(os.getpid(), own, holder.pid, "1")))
    with pytest.raises(NotRunning, match="anchor is gone"):
        open_doors(str(tmp_path))


@contextmanager
def program_with(environment: dict[str, str]) -> Iterator[int]:
    """A program that has started for sure, with this environment."""
    argv = ["/bin/sh", "-c", "echo; read end"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.kill()


def test_an_environment_is_read_whole() -> None:
    big = {f"V{number}": "x" * 100_000 for number in range(13)}
    with program_with(big) as pid:
        found = _environment_of(pid)
    for name, value in big.items():
        assert found[name.encode()] == value.encode()


def test_an_environment_beyond_the_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is memory of a process that the bottle owns, and could be made to have no end."""
    monkeypatch.setattr(entry, "_MAX_ENVIRONMENT", 1000)
    with program_with({"V": "x" * 1000}) as pid, pytest.raises(NotRunning, match="tampered"):
        _environment_of(pid)
