"""What the holder does with its bottle when claude has ended, where that bottle is not what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.cli.holder import _settled
from claude_bottle.operations.context import Context
from claude_bottle.operations.session.begin import environment
from claude_bottle.operations.session.claude import launch_mark
from claude_bottle.proc import SystemRunner
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths, Home, open_home

SLUG = "agent-abcde"
METADATA = Metadata(SLUG, "agent", "dev", "bubblewrap", 1.0, "none", "/", "digest")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    home = open_home(Home(tmp_path / "home"))
    return Context(home, SystemRunner(), {}, tmp_path)


@pytest.fixture
def paths(context: Context) -> BottlePaths:
    found = context.home.bottle(SLUG)
    found.logs.mkdir(parents=True)
    found.decisions.write_text("{}\n")
    (found.root / "authorities.pem").write_text("of this launch")
    store.save(context.home, METADATA)
    return found


def test_one_that_was_launched_again_meanwhile_is_left_alone(context: Context, paths: BottlePaths) -> None:
    mark = launch_mark(paths)
    (paths.root / "authorities.pem").write_text("of the next launch")
    words, status = _settled(context, METADATA, mark, 0)
    assert (words, status) == (f"{SLUG} was stopped, or has died\n", 143)
    assert not context.home.archive(SLUG).exists()
    assert paths.metadata.exists()


def test_one_that_is_gone_with_its_state_is_no_error(context: Context, paths: BottlePaths) -> None:
    mark = launch_mark(paths)
    store.remove(paths)
    assert _settled(context, METADATA, mark, 137)[1] == 143
    assert list(context.home.state.iterdir()) == []


def test_one_that_died_beneath_claude_is_preserved_and_archived(context: Context, paths: BottlePaths) -> None:
    words, status = _settled(context, METADATA, launch_mark(paths), 0)
    assert status == 143
    assert words.startswith(f"{SLUG} was stopped, or has died\n")
    assert "is preserved" in words
    assert (context.home.archive(SLUG) / "decisions.jsonl").exists()
    assert paths.metadata.exists()


def test_its_environment_holds_no_secret(context: Context) -> None:
    host = {
        "ANTHROPIC_API_KEY": "sk-1",
        "GITHUB_TOKEN": "x",
        "TERM": "xterm",
        "PATH": "/bin",
        "DOCKER_HOST": "h",
    }
    assert environment(METADATA, host) == {"TERM": "xterm", "PATH": "/bin"}
    of_docker = environment(METADATA._replace(backend="docker"), host)
    assert of_docker == {"TERM": "xterm", "PATH": "/bin", "DOCKER_HOST": "h"}
