"""Where things are on disk, and that only the operator gets there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.state.paths import Home, home_from, new_slug, open_home


def test_the_variable_moves_the_home(tmp_path: Path) -> None:
    assert home_from({"CLAUDE_BOTTLE_HOME": str(tmp_path)}).root == tmp_path
    assert home_from({}).root == Path.home() / ".claude-bottle"


@pytest.mark.parametrize("value", ["relative/path", "~/x", "."])
def test_a_relative_home_is_refused(value: str) -> None:
    with pytest.raises(BottleError, match="not an absolute path"):
        home_from({"CLAUDE_BOTTLE_HOME": value})


def test_everything_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = open_home(Home(tmp_path / "deep" / "home"))
    finally:
        os.umask(before)
    for path in (home.root, *home.root.iterdir()):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert {"bottles", "agents", "state", "queue", "audit"} <= set(os.listdir(home.root))


def test_an_open_home_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    open_home(Home(tmp_path))
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(BottleError, match="belongs to another user"):
        open_home(Home(tmp_path))


def test_a_home_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BottleError, match="cannot use") as caught:
        open_home(Home(tmp_path / "file" / "home"))
    assert "CLAUDE_BOTTLE_HOME" in str(caught.value.hint)


def test_everything_of_a_bottle_lies_in_its_folder(tmp_path: Path) -> None:
    paths = Home(tmp_path).bottle("a-00000")
    names = ("metadata", "run", "home", "workspace", "tmp", "overlay", "etc", "logs", "decisions", "handover")
    for name in names:
        assert getattr(paths, name).is_relative_to(tmp_path / "state" / "a-00000"), name


def test_slugs_differ() -> None:
    assert len({new_slug("a") for _ in range(100)}) > 90
