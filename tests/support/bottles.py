"""A small world in a folder: a home of claude-bottle, a repository, a manifest; and bottles launched from it.

Nothing of the tester's own environment gets in: the operator of this world is made up, and so is his key.
"""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Bottle
from claude_bottle.operations.choices import Options
from claude_bottle.operations.context import Context
from claude_bottle.operations.launch import Launched, launch
from claude_bottle.operations.prepare import Prepared, prepare
from claude_bottle.proc import Result, SystemRunner
from claude_bottle.state import store
from claude_bottle.state.paths import Home, open_home

KEY = "sk-ant-TEST-0f9b2c5d7e8a4613"  # looks real, opens nothing
MARKER = "only-the-operator-knows-4c1d"  # stands in the operator's environment
AGENT = "tester"


@dataclass(frozen=True)
class World:
    """One operator with one repository. Everything lies below `folder`."""

    folder: Path
    context: Context
    backend: str
    common: Mapping[str, Any] = field(default_factory=dict)  # to all bottles that are declared

    @property
    def home(self) -> Home:
        return self.context.home

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def declare(self, bottle: Mapping[str, Any], **agent: Any) -> None:
        """Replaces the manifest."""
        manifest = {
            "bottles": {"plain": {**self.common, **bottle}},
            "agents": {AGENT: {"bottle": "plain", **agent}},
        }
        (self.home.root / "claude-bottle.json").write_text(json.dumps(manifest))

    def prepare(self, workspace: str | None = None) -> Prepared:
        return prepare(self.context, Options(AGENT, backend=self.backend, workspace=workspace))

    def launch(self, workspace: str | None = None) -> Launched:
        return launch(self.context, self.prepare(workspace), no_progress, nobody_asks)

    @contextmanager
    def bottle(self, workspace: str | None = None) -> Iterator[Launched]:
        """Ended and removed afterwards."""
        launched = self.launch(workspace)
        try:
            yield launched
        finally:
            launched.bottle.stop()
            backend = load_backend(self.backend)
            backend.discard(launched.metadata, launched.paths)
            backend.forget(launched.metadata, launched.paths)
            store.remove(launched.paths)


def sweep(world: World) -> None:
    """Whatever a test has left of a world outside of its folder."""
    backend = load_backend(world.backend)
    for metadata in store.read_all(world.home):
        if not isinstance(metadata, store.Broken):
            paths = world.home.bottle(metadata.slug)
            bottle = backend.find(metadata, paths)
            if bottle is not None:
                bottle.stop()
            backend.discard(metadata, paths)
            backend.forget(metadata, paths)
    backend.clean(backend.remains(world.home.state))


def make_world(
    folder: Path,
    backend: str,
    environment: Mapping[str, str] | None = None,
    common: Mapping[str, Any] | None = None,
) -> World:
    operator = folder / "operator"
    operator.mkdir(parents=True)
    tools = ("CLAUDE_BOTTLE_ENVOY", "CLAUDE_BOTTLE_CLAUDE")  # where this machine has them
    known = {
        **{name: os.environ[name] for name in tools if name in os.environ},
        "PATH": os.environ["PATH"],
        "HOME": str(operator),
        "ANTHROPIC_API_KEY": KEY,
        "OPERATOR_MARKER": MARKER,
        **(environment or {}),
    }
    home = open_home(Home(folder / "home"))
    repository = folder / "repository"
    repository.mkdir()
    world = World(folder, Context(home, SystemRunner(known), known, repository), backend, common or {})
    for argv in (
        ("init", "-q", "-b", "main"),
        ("config", "user.name", "Operator"),
        ("config", "user.email", "operator@example.org"),
    ):
        host_git(world, *argv)
    (repository / "README").write_text("a small repository\n")
    host_git(world, "add", ".")
    host_git(world, "commit", "-qm", "Start")
    world.declare({})
    return world


def host_git(world: World, *arguments: str) -> str:
    """git as this world's operator runs it on the host."""
    done = subprocess.run(
        ["git", "-C", str(world.repository), *arguments],
        env={**world.context.environment, "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def python_inside(bottle: Bottle, code: str, *arguments: str, timeout: float = 60.0) -> Result:
    """Runs Python code inside, as an agent would: with what is there."""
    program = textwrap.dedent(code)
    return bottle.exec(["/usr/bin/python3", "-c", program, *arguments], timeout=timeout)


def shell_inside(bottle: Bottle, script: str, *arguments: str, timeout: float = 60.0) -> Result:
    return bottle.exec(["sh", "-c", textwrap.dedent(script), "sh", *arguments], timeout=timeout)


def only_with(backend: str, launched: Launched, reason: str) -> None:
    """For a test of how one backend does it; `reason` says why the others have nothing to show here."""
    if launched.metadata.backend != backend:
        pytest.skip(f"only {backend}: {reason}")


def decisions(launched: Launched) -> list[dict[str, Any]]:
    """What the bottle's sidecars have decided so far."""
    return [json.loads(line) for line in launched.paths.decisions.read_text().splitlines()]


def no_progress(_: str, __: float) -> None:
    """Nobody watches."""


def nobody_asks(question: str) -> str:
    raise AssertionError(f"nobody is there to answer {question!r}")
