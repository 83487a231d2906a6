"""What was added stays with the bottle; what cannot be read is never taken for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.policy.additions import Additions
from claude_bottle.state import additions
from claude_bottle.state.additions import Rebuild
from claude_bottle.state.paths import BottlePaths

ADDED = Additions(("jq",), "RUN true")


@pytest.fixture
def paths(tmp_path: Path) -> BottlePaths:
    return BottlePaths(tmp_path)


def test_kept_and_taken_back(paths: BottlePaths) -> None:
    assert additions.load(paths) == Additions()
    additions.save(paths, ADDED)
    assert additions.load(paths) == ADDED
    additions.save(paths, Additions())
    assert not paths.additions.exists()


def test_a_rebuild_that_did_not_end_is_known(paths: BottlePaths) -> None:
    assert additions.under_way(paths) is None
    additions.begin(paths, Rebuild("d-1", ADDED))
    assert additions.under_way(paths) == Rebuild("d-1", ADDED)
    additions.end(paths)
    additions.end(paths)
    assert additions.under_way(paths) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "additions": {"packages": ["a b"], "dockerfile": ""}}'],
)
def test_what_is_broken_is_an_error(paths: BottlePaths, content: str) -> None:
    paths.additions.write_text(content)
    with pytest.raises(BottleError, match="cannot be read"):
        additions.load(paths)


def test_no_link_is_followed(paths: BottlePaths, tmp_path: Path) -> None:
    additions.save(paths, ADDED)
    paths.additions.rename(tmp_path / "other.json")
    paths.additions.symlink_to(tmp_path / "other.json")
    with pytest.raises(BottleError, match="cannot be read"):
        additions.load(paths)
