"""Envoy's first folder: no bottle can be taken for it, and a forgotten one goes on a later day."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap import cradle
from claude_bottle.state.paths import is_slug

HOURS = 3600.0


def aged(state: Path, hours: float) -> Path:
    path = Path(cradle.new_name(str(state)))
    cradle.make(str(path), None)
    (path / "envoy.json").write_text("{}")
    moment = time.time() - hours * HOURS
    os.utime(path, (moment, moment))
    return path


def test_it_is_private_new_and_no_bottle(tmp_path: Path) -> None:
    first, second = aged(tmp_path, 0), aged(tmp_path, 0)
    assert first != second
    assert {is_slug(path.name) for path in (first, second)} == {False}
    assert first.stat().st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        cradle.make(str(first), None)


def test_what_was_taken_over_is_not_removed(tmp_path: Path) -> None:
    place = aged(tmp_path, 0)
    taken = tmp_path / "egress"
    place.rename(taken)
    cradle.remove(str(place))
    assert (taken / "envoy.json").exists()


def test_only_forgotten_ones_are_removed(tmp_path: Path) -> None:
    young, old = aged(tmp_path, 23), aged(tmp_path, 25)
    bottle = tmp_path / "reviewer-00000"
    bottle.mkdir()
    os.utime(bottle, (0, 0))
    cradle.remove_forgotten(str(tmp_path))
    assert (young.exists(), old.exists(), bottle.exists()) == (True, False, True)


def test_a_link_is_removed_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    link = Path(cradle.new_name(str(tmp_path)))
    link.symlink_to(precious)
    os.utime(link, (0, 0), follow_symlinks=False)
    cradle.remove_forgotten(str(tmp_path))
    assert (link.is_symlink(), (precious / "file").read_text()) == (False, "mine")
