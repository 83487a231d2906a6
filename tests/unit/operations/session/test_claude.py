"""Which claude is run; the wrapper is run by a real shell, with a claude of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from claude_bottle.backend.base import CLAUDE
from claude_bottle.errors import BottleError
from claude_bottle.operations.session.claude import Asked, inner_command, launch_mark, recall, remember
from claude_bottle.state.paths import BottlePaths

ODD = ("--append-system-prompt-file", "/a path/with 'quotes' and $HOME", "", "*")


@pytest.fixture
def paths(tmp_path: Path) -> BottlePaths:
    (tmp_path / "agent-abcde").mkdir()
    return BottlePaths(tmp_path / "agent-abcde")


class World:
    """A home with transcripts, and a claude that notes its arguments and does as `plan` says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = root / "config dir" / "projects" / "-home-node-workspace"
        self.project.mkdir(parents=True)
        self.claude = root / "the claude"

    def plan(self, script: str) -> None:
        self.claude.write_text(
            f'#!/bin/sh\nfor word; do printf "%s\\037" "$word"; done >>"{self.root}/log"\n'
            f'echo >>"{self.root}/log"\ncd "{self.project}"\n{script}\n'
        )
        self.claude.chmod(0o755)

    def run(self, *always: str) -> tuple[int, list[list[str]]]:
        command = [
            str(self.claude) if word == CLAUDE else word for word in inner_command(Asked(always, (), True))
        ]
        environment = {"PATH": os.environ["PATH"], "CLAUDE_CONFIG_DIR": str(self.root / "config dir")}
        status = subprocess.run(command, env=environment, check=False).returncode
        lines = (self.root / "log").read_text().splitlines()
        return status, [line.split("\x1f")[:-1] for line in lines]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_first_time_as_it_was_asked_for() -> None:
    assert inner_command(Asked(("--a",), ("do this",))) == [CLAUDE, "--a", "do this"]


def test_without_a_transcript_a_fresh_one_and_no_other(world: World) -> None:
    world.plan("exit 3")
    assert world.run(*ODD) == (3, [[*ODD]])


def test_with_a_transcript_it_is_continued(world: World) -> None:
    (world.project / "one.jsonl").write_text("{}\n")
    world.plan("exit 0")
    assert world.run(*ODD) == (0, [[*ODD, "--continue"]])


def test_a_transcript_that_cannot_be_continued_falls_through_to_a_fresh_one(world: World) -> None:
    (world.project / "one.jsonl").write_text("junk\n")
    world.plan('case "$*" in *--continue*) exit 1;; *) exit 5;; esac')
    assert world.run(*ODD) == (5, [[*ODD, "--continue"], [*ODD]])


@pytest.mark.parametrize("work", ["echo more >>one.jsonl", "echo new >two.jsonl"])
def test_one_that_has_worked_and_failed_is_the_last(world: World, work: str) -> None:
    (world.project / "one.jsonl").write_text("{}\n")
    world.plan(f"{work}; exit 7")
    assert world.run(*ODD) == (7, [[*ODD, "--continue"]])


def test_what_was_asked_for_is_remembered(paths: BottlePaths) -> None:
    asked = Asked(("--a b",), ("do 'this'",), True)
    remember(paths, asked)
    assert recall(paths) == asked
    assert (paths.session.stat().st_mode & 0o777, (paths.session / "claude.json").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )


def test_nobody_asked(paths: BottlePaths) -> None:
    with pytest.raises(BottleError, match="agent-abcde was not started for a terminal"):
        recall(paths)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"always": "x", "first": [], "begun": true}', "\xff"])
def test_what_cannot_be_read_is_an_error(paths: BottlePaths, content: str) -> None:
    remember(paths, Asked(()))
    (paths.session / "claude.json").write_text(content)
    with pytest.raises(BottleError, match=r"claude\.json cannot be read"):
        recall(paths)


def test_words_are_words(paths: BottlePaths) -> None:
    remember(paths, Asked(()))
    (paths.session / "claude.json").write_text(json.dumps({"always": [1], "first": [], "begun": False}))
    with pytest.raises(BottleError, match="these are no arguments"):
        recall(paths)


def test_each_launch_has_a_mark_of_its_own(paths: BottlePaths) -> None:
    assert launch_mark(paths) == b""
    (paths.root / "authorities.pem").write_text("one")
    first = launch_mark(paths)
    (paths.root / "authorities.pem").write_text("two")
    assert first
    assert launch_mark(paths) not in (b"", first)
