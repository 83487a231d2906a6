"""A running bottle whose agent has asked for things, and an operator's command line beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.operations.deciding import Seen, look
from claude_bottle.operations.launch import Launched, launch
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import EGRESS, Asked, Proposal, Queue
from claude_bottle.policy.proposals_json import queue_to_json
from tests.support.bottles import World, no_progress, nobody_asks, shell_inside, sweep

ROOT = Path(__file__).parents[2]


def proposal(number: int, asked: Asked) -> Proposal:
    return Proposal(f"p-{number:04x}abcdef", asked, time.time() - 60 + number)


def wants(host: str, *, why: str = "it is needed", inspect: bool = False) -> Asked:
    return Asked(EGRESS, why, Route(host, inspect=inspect))


@dataclass(frozen=True)
class Said:
    """A command that has ended."""

    status: int
    out: str
    talk: str


@dataclass(frozen=True)
class Asking:
    """A world with one bottle in it."""

    world: World
    launched: Launched

    @property
    def slug(self) -> str:
        return self.launched.metadata.slug

    @property
    def seen(self) -> Seen:
        return look(self.launched.bottle)

    @property
    def environment(self) -> dict[str, str]:
        known = self.world.context.environment
        return {
            **known,
            "CLAUDE_BOTTLE_HOME": str(self.world.home.root),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }

    def started(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "claude_bottle", *arguments],
            env={**self.environment, **environment},
            cwd=self.world.repository,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, *arguments: str, **environment: str) -> Said:
        process = self.started(*arguments, **environment)
        out, talk = process.communicate(timeout=120)
        assert "Traceback" not in talk, talk
        return Said(process.returncode, out, talk)

    def fetch(self, url: str) -> str:
        """The status that a client inside sees."""
        script = 'curl -s -o /dev/null -m 20 -w "%{http_code}" "$1"'
        return shell_inside(self.launched.bottle, script, url).text.strip()


@contextmanager
def asking(world: World, proposals: Iterable[Proposal]) -> Iterator[Asking]:
    """The bottle begins with these, as one that is resumed."""
    prepared = world.prepare()
    file = prepared.paths.proposals
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(queue_to_json(Queue(tuple(proposals)))))
    try:
        yield Asking(world, launch(world.context, prepared, no_progress, nobody_asks))
    finally:
        sweep(world)
