"""Any process of ours is killed at any moment; then everything is tidied away, and no commit is lost.

`CHAOS_LIFECYCLES` says how many lives each backend gets; `CHAOS_SEED` and `CHAOS_FIRST` repeat what was seen, as
far as the machine is as quick as it was.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.chaos import Chaos, files_of, mounts_of, watched
from tests.support.e2e import Cli, Done, eventually

pytestmark = pytest.mark.needs("envoy", "claude")

LIVES = int(os.environ.get("CHAOS_LIFECYCLES", "6"))
FIRST = int(os.environ.get("CHAOS_FIRST", "0"))
SEED = os.environ.get("CHAOS_SEED") or secrets.token_hex(4)
COMMIT = "echo {0} >> notes && git add --all && git commit -qm {0} && git log -1 --format=%H"
HASH = re.compile(r"[0-9a-f]{40}")
SLOW = 5.0  # a phase that takes longer, when it is left alone, is attacked within its beginning


class Life:
    """One bottle from its start to its end, and the commits that were seen in it."""

    def __init__(self, cli: Cli, begins: Callable[[str], None]) -> None:
        self._cli = cli
        self._begins = begins
        self.commits: dict[str, str] = {}  # commit -> slug

    def live(self) -> None:
        """Whatever fails is what a killed process does; what counts is what is seen."""
        self._begins("start")
        self._done("start", self._cli.agent, "--detach", "--yes")
        for phase in ("first commit", "second commit"):
            self._begins(phase)
            for slug in folders(self._cli):
                self._commit(slug, phase.split()[0])
        self._begins("list")
        self._done("list")
        self._begins("stop")
        for slug in folders(self._cli):
            self._done("stop", slug)

    def _commit(self, slug: str, word: str) -> None:
        done = self._done("exec", slug, "--", "sh", "-c", COMMIT.format(word))
        if done.status == 0:
            commit = done.text.strip()
            assert HASH.fullmatch(commit), done.everything
            self.commits[commit] = slug

    def _done(self, *command: str) -> Done:
        done = self._cli(*command)
        assert "Traceback" not in done.talk, done.everything
        return done


def folders(cli: Cli) -> list[str]:
    return sorted(path.name for path in cli.state.glob(f"{cli.agent}-*"))


def tidy(cli: Cli, commits: dict[str, str]) -> None:
    """As an operator would: `list`, `stop`, what is wanted is pulled, `cleanup`."""
    cli("list").ok()
    for slug in folders(cli):
        done = cli("stop", slug)
        assert (done.status in (0, 1), "Traceback" in done.talk) == (True, False), done.everything
    assert cli.slugs() == []
    for slug in sorted(set(commits.values())):
        cli("pull", slug).ok()
    lost = [commit for commit, slug in commits.items() if not is_kept(cli, commit, slug)]
    assert lost == []
    purge = [word for slug in folders(cli) for word in ("--purge", slug)]
    cli("cleanup", "--yes", *purge).ok()
    assert cli("cleanup", "--yes").ok().out == b"", "nothing was forgotten the first time"


def is_kept(cli: Cli, commit: str, slug: str) -> bool:
    found = cli.git("for-each-ref", "--format=%(refname)", "--contains", commit, f"refs/bottles/{slug}/")
    return found != ""


def timed(cli: Cli) -> dict[str, float]:
    """How long each phase takes when nobody is killed; and that a life leaves nothing then."""
    began: list[tuple[str, float]] = []
    life = Life(cli, lambda phase: began.append((phase, time.monotonic())))
    life.live()
    began.append(("over", time.monotonic()))
    assert len(life.commits) == 2
    tidy(cli, life.commits)
    return {name: min(SLOW, end - begin) for (name, begin), (_, end) in pairwise(began)}


def assert_one_life_leaves_nothing(cli: Cli, chaos: Chaos, before: list[str]) -> int:
    """Returns how many commits were seen in it."""
    life = Life(cli, chaos.phase)
    with watched(cli) as networks:
        try:
            life.live()
        finally:
            chaos.end()
        tidy(cli, life.commits)
        cli.assert_nothing_is_left()
        eventually(lambda: not networks.left(), lambda: str(networks.left()))
    assert (cli.volumes(), mounts_of(cli)) == ([], [])
    assert files_of(cli) == before
    return len(life.commits)


def test_whatever_is_killed_nothing_is_left_and_no_commit_is_lost(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    cli("list").ok()
    timed(cli)  # the first makes images
    phases = timed(cli)
    before = files_of(cli)
    print(f"\nCHAOS_SEED={SEED} {cli.backend}: {phases}")
    for number in range(FIRST, FIRST + LIVES):
        chaos = Chaos(cli, random.Random(f"{SEED} {cli.backend} {number}"), phases)
        try:
            seen = assert_one_life_leaves_nothing(cli, chaos, before)
        except BaseException as error:
            error.add_note(f"CHAOS_SEED={SEED} CHAOS_FIRST={number}: {chaos.kills}")
            raise
        print(f"{number}: {chaos.kills} {seen} commits seen", flush=True)
