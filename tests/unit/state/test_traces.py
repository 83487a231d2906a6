"""What was read of a file is kept while the file is what it was, and not a moment longer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from claude_bottle.state import traces
from claude_bottle.state.traces import Kept, trace
from tests.support.processes import eventually


class Reading:
    def __init__(self, path: Path) -> None:
        self.path, self.times, self.kept = path, 0, Kept[str]()

    def __call__(self) -> str:
        return self.kept.get(str(self.path), self.read)

    def read(self) -> str:
        self.times += 1
        return self.path.read_text() if self.path.exists() else ""

    def is_kept(self) -> bool:
        """Once it is not of this moment any more."""
        before = self.times
        self()
        return self.times == before


def test_what_is_as_it_was_is_not_read_again(tmp_path: Path) -> None:
    read = Reading(tmp_path / "a")
    read.path.write_text("one")
    assert eventually(read.is_kept)
    assert read() == "one"


def test_any_change_is_seen_at_once_also_where_the_times_are_set_back(tmp_path: Path) -> None:
    read = Reading(tmp_path / "a")
    read.path.write_text("one")
    assert eventually(read.is_kept)
    found = read.path.stat()
    read.path.write_text("two")
    os.utime(read.path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert read() == "two"
    read.path.write_text("six")
    assert read() == "six"
    other = tmp_path / "b"
    other.write_text("ten")
    other.rename(read.path)
    assert read() == "ten"
    read.path.unlink()
    assert read() == ""


def test_what_is_not_there_or_was_just_written_is_looked_at_each_time(tmp_path: Path) -> None:
    read = Reading(tmp_path / "a")
    assert (read(), read(), read.times) == ("", "", 2)
    read.path.write_text("one")
    ahead = time.time_ns() + traces._GRAIN * 1000
    os.utime(read.path, ns=(ahead, ahead))  # its own word, which nobody goes by
    assert eventually(read.is_kept)


def test_what_nobody_asks_for_in_a_whole_turn_is_forgotten(tmp_path: Path) -> None:
    read = Reading(tmp_path / "a")
    read.path.write_text("one")
    assert eventually(read.is_kept)
    for _ in range(3):
        read.kept.turn()
        assert read.is_kept()
    read.kept.turn()
    read.kept.turn()
    assert not read.is_kept()


def test_a_link_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").symlink_to("a")
    assert trace(str(tmp_path / "b")) != trace(str(tmp_path / "a"))
    assert trace(str(tmp_path / "c")) is None
