"""Why a state is preserved, and since when."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from claude_bottle.state import marker
from claude_bottle.state.paths import BottlePaths


@pytest.fixture
def paths(tmp_path: Path) -> BottlePaths:
    return BottlePaths(tmp_path)


def test_it_is_there_from_mark_to_clear(paths: BottlePaths) -> None:
    assert marker.read(paths) is None
    before = time.time()
    marker.mark(paths, "stopped")
    found = marker.read(paths)
    assert found is not None
    assert found.why == "stopped"
    assert before <= found.since <= time.time()
    marker.mark(paths, "x" * 10_000, 12.5)
    assert marker.read(paths) == ("x" * 500, 12.5)
    marker.clear(paths)
    marker.clear(paths)
    assert marker.read(paths) is None


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '{"why": "x"}', '{"why": 1, "since": "x"}', "[" * 50_000]
)
def test_one_that_cannot_be_read_still_says_that_it_was_preserved(paths: BottlePaths, text: str) -> None:
    paths.marker.write_text(text)
    assert marker.read(paths) == ("its marker cannot be read", 0.0)
