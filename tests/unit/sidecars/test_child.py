"""A program that serves beside the bundle: what it started ends with it, tied or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from claude_bottle.sidecars.child import Child, last_words, write_for_envoy
from tests.support.processes import eventually

_FORKS = 'sleep 1000 & echo "$!"; wait'


def forked(folder: Path) -> tuple[Child, int]:
    """A program that has forked another, which nothing ties to it."""
    log = folder / "log"
    child = Child(["sh", "-c", _FORKS], str(log))
    assert eventually(lambda: log.exists() and log.read_text().endswith("\n"))
    return child, int(log.read_text())


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"  # its new parent takes its time
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_it_forked_ends_when_it_is_killed(tmp_path: Path) -> None:
    child, other = forked(tmp_path)
    child.kill()
    assert child.status == -signal.SIGKILL
    assert eventually(lambda: is_gone(other))


def test_what_it_forked_ends_when_it_ends(tmp_path: Path) -> None:
    import asyncio

    async def ended() -> tuple[Child, int]:
        child, other = forked(tmp_path)
        over = asyncio.get_running_loop().create_future()
        child.on_exit(lambda: over.set_result(None))
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.wait_for(over, 20)
        return child, other

    child, other = asyncio.run(ended())
    assert child.status == -signal.SIGKILL
    assert eventually(lambda: is_gone(other))


def test_a_second_kill_does_nothing(tmp_path: Path) -> None:
    child, _ = forked(tmp_path)
    child.kill()
    child.kill()
    assert child.status == -signal.SIGKILL


def test_its_output_follows_no_link_and_waits_for_no_pipe(tmp_path: Path) -> None:
    """The folder may be the program's own, and what ran there before may have been taken over."""
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "link").symlink_to(other)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match="setpriv"):
            Child(["sh", "-c", "echo yours"], str(tmp_path / name))
        assert last_words(str(tmp_path / name)) in (
            "its log is no file",
            "its log cannot be read: Too many levels of symbolic links",
        )
    assert other.read_text() == "mine"


def test_its_files_follow_no_link_and_wait_for_no_pipe(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "first.new").symlink_to(other)
    os.mkfifo(tmp_path / "second.new")
    for name in ("first", "second"):
        write_for_envoy(str(tmp_path / name), {"a": 1}, None)
        assert (tmp_path / name).read_text() == '{"a": 1}'
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "it said nothing"), (b"a\nb\n", "b"), (b"x" * 9999 + b"\n\n", "x" * 4094), (b"\xff", "\ufffd")],
)
def test_its_last_words(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "log").write_bytes(content)
    assert last_words(str(tmp_path / "log")) == words
    assert last_words(str(tmp_path / "none")).startswith("its log cannot be read")
