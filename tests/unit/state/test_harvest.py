"""Copying out of a folder that an agent writes: no link, no waiting, no half of a file, nothing passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.state import harvest
from claude_bottle.state.harvest import Bounds, Left, copy_file, copy_trees

NAMES = ("projects", "todos")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    found = tmp_path / "home"
    (found / ".claude" / "projects" / "-work").mkdir(parents=True)
    (found / ".claude" / "projects" / "-work" / "a.jsonl").write_text("one\n")
    (found / ".claude" / ".credentials.json").write_text("never")
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    found = tmp_path / "outside"
    found.mkdir()
    (found / "precious").write_text("the host's")
    return found


def take(home: Path, bounds: Bounds | None = None) -> tuple[dict[str, str], Left]:
    target = home.parent / "archive"
    left = copy_trees(home, (".claude",), NAMES, target, bounds)
    return {
        str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()
    }, left


def test_what_was_named_is_copied_and_nothing_else(home: Path) -> None:
    found, left = take(home)
    assert found == {"projects/-work/a.jsonl": "one\n"}
    assert (left.count, left.words("the transcript")) == (0, "")


def test_a_later_copy_takes_the_place_of_an_earlier_one_and_keeps_what_is_gone(home: Path) -> None:
    take(home)
    folder = home / ".claude" / "projects" / "-work"
    (folder / "a.jsonl").unlink()
    (folder / "b.jsonl").write_text("two\n")
    assert take(home)[0] == {"projects/-work/a.jsonl": "one\n", "projects/-work/b.jsonl": "two\n"}


@pytest.mark.parametrize(
    "where", [".claude", ".claude/projects", ".claude/projects/-work", ".claude/projects/x"]
)
def test_a_link_is_never_followed(home: Path, outside: Path, where: str) -> None:
    link = home / where
    if link.exists():
        link.rename(home / "elsewhere")
    (outside / "projects").mkdir()
    (outside / "projects" / "p").write_text("the host's")
    link.symlink_to(outside)
    found, _ = take(home)
    assert "the host's" not in found.values()


def test_the_link_of_a_home_is_told_of(home: Path, outside: Path) -> None:
    (home / ".claude").rename(home / "elsewhere")
    (home / ".claude").symlink_to(outside)
    assert (
        take(home)[1].words("the transcript")
        == "1 part of the transcript could not be taken, such as .claude"
    )


def test_nothing_waits_for_a_pipe(home: Path) -> None:
    os.mkfifo(home / ".claude" / "projects" / "a-pipe")
    os.mkfifo(home / ".claude" / "todos")
    found, left = take(home)
    assert (list(found), left.count) == (["projects/-work/a.jsonl"], 0)


@pytest.mark.parametrize(
    ("bounds", "kept", "count"),
    [
        (Bounds(files=2), 2, 3),
        (Bounds(bytes=9), 2, 3),
        (Bounds(depth=2), 0, 1),
        (Bounds(entries=3), 3, 1),
        (Bounds(), 5, 0),
    ],
)
def test_what_is_over_a_bound_is_counted(home: Path, bounds: Bounds, kept: int, count: int) -> None:
    for name in "bcde":
        (home / ".claude" / "projects" / "-work" / f"{name}.jsonl").write_text("two\n")
    found, left = take(home, bounds)
    assert left.count >= count
    assert (left.count == 0) == (count == 0)
    assert len(found) <= kept
    if count:
        assert "could not be taken, such as projects/" in left.words("it")


def test_a_folder_where_a_file_was_is_told_of_and_the_rest_is_copied(home: Path) -> None:
    take(home)
    folder = home / ".claude" / "projects" / "-work"
    (folder / "a.jsonl").unlink()
    (folder / "a.jsonl").mkdir()
    (folder / "a.jsonl" / "x").write_text("new")
    (folder / "z").write_text("last")
    found, left = take(home)
    assert found == {"projects/-work/a.jsonl": "one\n", "projects/-work/z": "last"}
    assert left.first == "projects/-work/a.jsonl/x"


def test_a_copy_that_fails_leaves_what_was_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(home)
    (home / ".claude" / "projects" / "-work" / "a.jsonl").write_text("one\ntwo\n")

    def full(source: int, count: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(harvest.os, "read", full)
    with pytest.raises(OSError, match="No space"):
        take(home)
    monkeypatch.undo()
    target = home.parent / "archive"
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["a.jsonl"]
    assert (target / "projects" / "-work" / "a.jsonl").read_text() == "one\n"


def test_a_single_file_is_copied_within_its_limit(tmp_path: Path) -> None:
    source, target = tmp_path / "log", tmp_path / "deep" / "copy"
    assert copy_file(source, target, 10)
    assert not target.exists()
    source.write_text("0123456789")
    assert copy_file(source, target, 10)
    assert target.read_text() == "0123456789"
    source.write_text("0123456789a")
    assert not copy_file(source, target, 10)
    source.unlink()
    source.symlink_to("/etc/hostname")
    assert not copy_file(source, target, 10_000)
    assert target.read_text() == "0123456789"
