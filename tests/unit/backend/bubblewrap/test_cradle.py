"""Envoy's first folder: no bottle can be taken for it, and one that nobody uses any more goes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap import cradle
from claude_bottle.state.paths import is_slug


def made(state: Path) -> tuple[Path, int]:
    path = Path(cradle.new_name(str(state)))
    used = cradle.make(str(path), None)
    (path / "envoy.json").write_text("{}")
    return path, used


def test_it_is_private_new_and_no_bottle(tmp_path: Path) -> None:
    (first, _), (second, _) = made(tmp_path), made(tmp_path)
    assert first != second
    assert {is_slug(path.name) for path in (first, second)} == {False}
    assert first.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        cradle.make(str(first), None)


def test_what_was_taken_over_is_not_removed(tmp_path: Path) -> None:
    place, _ = made(tmp_path)
    taken = tmp_path / "egress"
    place.rename(taken)
    cradle.remove(str(place))
    cradle.remove_unused(str(place))
    assert (taken / "envoy.json").exists()


def test_only_those_that_nobody_uses_are_removed(tmp_path: Path) -> None:
    (used, _), (unused, descriptor) = made(tmp_path), made(tmp_path)
    os.close(descriptor)  # as the kernel does for whoever is killed
    bottle = tmp_path / "reviewer-00000"
    bottle.mkdir()
    assert cradle.forgotten(str(tmp_path)) == [str(unused)]
    cradle.remove_unused(str(used))
    cradle.remove_forgotten(str(tmp_path))
    assert (used.exists(), unused.exists(), bottle.exists()) == (True, False, True)


def test_one_that_was_taken_for_forgotten_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, times = fcntl.flock, []

    def removed_meanwhile(descriptor: int, how: int) -> None:
        if not times:
            times.append(how)
            cradle.remove_unused(str(path))
        lock(descriptor, how)

    path = Path(cradle.new_name(str(tmp_path)))
    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    used = cradle.make(str(path), None)
    assert (times, path.is_dir()) == ([fcntl.LOCK_EX], True)
    assert cradle.forgotten(str(tmp_path)) == []
    os.close(used)


def test_a_link_is_removed_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    link = Path(cradle.new_name(str(tmp_path)))
    link.symlink_to(precious)
    cradle.remove_forgotten(str(tmp_path))
    assert (link.is_symlink(), (precious / "file").read_text()) == (False, "mine")
