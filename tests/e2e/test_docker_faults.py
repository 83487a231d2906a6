"""Faults of a whole engine: it is restarted, it crashes, its disk is full, it holds what nobody knows any more.

All tests share one engine of their own, which no other test and no other bottle of this machine uses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from tests.support.e2e import PATIENCE, ROOT, Cli, eventually, write
from tests.support.engines import Engine, private_engine, why_no_engine

pytestmark = [pytest.mark.backends("docker"), pytest.mark.needs("docker", "root", "envoy", "claude")]
BASE = "claude-bottle/base:bookworm"
GIB, MIB = 1 << 30, 1 << 20
ROOMY = 4 * GIB
COMMIT = "echo '# mine' >> adder.py && git add --all && git commit -qm Mine"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """With the image that bottles are made of, and for every `docker` of these tests."""
    if lacking := why_no_engine():
        pytest.skip(f"needs an engine of its own: {lacking}")
    with private_engine(ROOMY) as engine, pytest.MonkeyPatch.context() as patch:
        give_base_image(engine)
        patch.setenv("DOCKER_HOST", engine.host)
        yield engine


def give_base_image(engine: Engine) -> None:
    """The one that this machine's engine has, or a new one."""
    there = subprocess.run(["docker", "image", "inspect", BASE], capture_output=True, check=False)
    if there.returncode == 0:
        with subprocess.Popen(["docker", "save", BASE], stdout=subprocess.PIPE) as saving:
            load = ["docker", "--host", engine.host, "load", "--quiet"]
            subprocess.run(load, stdin=saving.stdout, capture_output=True, check=True)
        return
    made = subprocess.run(
        [ROOT / "script" / "base-image"],
        env={**os.environ, "DOCKER_HOST": engine.host},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"script/base-image cannot make {BASE}: {' '.join(made.stderr.splitlines()[-1:])}")


@pytest.fixture
def ready(engine: Engine, cli: Cli) -> Iterator[Cli]:
    """An operator on that engine, which is as it was when the test is over, however it ended."""
    cli.more["DOCKER_HOST"] = engine.host
    cli.repository()
    cli.manifest()
    yield cli
    engine.resize(ROOMY)
    if not engine.runs or engine.live_restore:
        engine.crash()
        engine.start()
    if left := cli.containers():
        engine.docker("rm", "--force", "--volumes", *left)


def assert_clean(cli: Cli) -> None:
    """`cleanup` leaves no container, and of volumes only those whose work is preserved; which then go by name."""
    cli("cleanup", "--yes").ok()
    assert cli.containers() == []
    kept = cli.preserved()
    assert [name for name in cli.volumes() if not any(slug in name for slug in kept)] == []
    assert cli("cleanup", "--yes").ok().out == b""
    if kept:
        cli("cleanup", "--yes", *(word for slug in kept for word in ("--purge", slug))).ok()
    assert (cli.volumes(), list(cli.state.glob(f"{cli.agent}-*"))) == ([], [])
    cli.assert_nothing_is_left()


def assert_starts(cli: Cli) -> None:
    slug = cli.start()
    assert cli.inside(slug, "cat adder.py").ok().text.startswith("def add")
    cli("stop", slug).ok()
    assert_clean(cli)


def work_of(cli: Cli, slug: str) -> str:
    """The last commit that came back of a bottle."""
    return cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}")


# A restart

ENDS: dict[str, Callable[[Engine], None]] = {
    "in order": lambda engine: engine.end(signal.SIGTERM),
    "killed": lambda engine: engine.end(signal.SIGKILL),
    "power failure": lambda engine: engine.crash(),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_bottle_whose_engine_is_restarted_has_ended_and_its_work_is_there(
    engine: Engine, ready: Cli, how: str
) -> None:
    slug = ready.start()
    ready.inside(slug, COMMIT).ok()
    ENDS[how](engine)
    away = ready("list").ok()
    assert "what runs there is not known" in away.talk
    assert slug not in away.text
    ready("exec", slug, "--", "true").failed(1, "the engine does not answer")
    ready("cleanup", "--yes").failed(1, "what runs there is not known")
    engine.start()
    assert (ready.slugs(), ready.preserved()) == ([], [slug])
    ready.assert_nothing_runs()
    assert ready("exec", slug, "--", "true").status != 0
    ready("pull", slug).ok()
    assert work_of(ready, slug) == "Mine"
    ready("cleanup", "--yes").ok()
    assert ready.containers() == []
    assert_starts(ready)


def test_a_bottle_that_outlives_its_engine_is_listed_works_and_holds(engine: Engine, ready: Cli) -> None:
    """`live-restore` is a setting of engines that are updated under what they run."""
    engine.end(signal.SIGTERM)
    engine.start(live_restore=True)
    slug = ready.start()
    ready.inside(slug, COMMIT).ok()
    for number in (signal.SIGTERM, signal.SIGKILL):
        engine.end(number)
        assert "what runs there is not known" in ready("list").talk
        engine.start(live_restore=True)
        assert (ready.slugs(), ready.preserved()) == ([slug], [])
        assert ready.inside(slug, "git log -1 --format=%s").ok().text == "Mine\n"
        assert ready.inside(slug, "curl -sS https://denied.example.org").status != 0
        assert ready("cleanup", "--dry-run").ok().out == b""
    assert "denied.example.org" in ready("logs", slug).ok().text
    ready("stop", slug).ok()
    assert work_of(ready, slug) == "Mine"
    assert_clean(ready)


# No room

FULL = "no space left on device"


def test_an_engine_without_room_for_an_image_says_so_and_leaves_nothing(engine: Engine, ready: Cli) -> None:
    recipe = write(ready.root / "Dockerfile", f"FROM {BASE}\nRUN echo {ready.agent} > /etc/marker\n")
    ready.manifest(bottle=f"dockerfile: {recipe}\n")
    before = engine.used()
    # For the engine's copy of what the image is made of; for the image beside that copy; for all of the image.
    for room in (1 * MIB, 450 * MIB, 600 * MIB):
        engine.resize(before + room)
        assert_refused(ready, "cannot be built", FULL)
        assert engine.docker("ps", "--all", "--quiet") == "", "nor one in which an image is built"
    engine.resize(ROOMY)
    assert_starts(ready)


def assert_refused(cli: Cli, *words: str) -> None:
    """A start that ends with one error, which has these words, and leaves nothing."""
    done = cli("start", cli.agent, "--detach", "--yes").failed(1, *words)
    (said,) = [line for line in done.talk.splitlines() if line.startswith("claude-bottle: ")]
    assert not [word for word in words if word not in said], done.everything
    assert (cli.slugs(), cli.preserved(), cli.volumes()) == ([], [], [])
    cli.assert_nothing_is_left()


def test_an_engine_without_room_for_a_bottle_says_so_and_leaves_nothing(engine: Engine, ready: Cli) -> None:
    assert_starts(ready)  # the images are there
    engine.resize(engine.used())
    assert_refused(ready, FULL)
    engine.resize(ROOMY)
    assert_starts(ready)


def test_a_disk_that_fills_up_neither_keeps_a_bottle_running_nor_loses_its_work(
    engine: Engine, ready: Cli
) -> None:
    slug = ready.start()
    ready.inside(slug, COMMIT).ok()
    engine.resize(engine.used())
    assert ready.inside(slug, "head -c 9000000 /dev/urandom > big").status != 0
    stopped = ready("stop", slug)
    assert "Traceback" not in stopped.talk, stopped.everything
    assert (ready.slugs(), ready.preserved(), ready.containers()) == ([], [slug], [])
    engine.resize(ROOMY)
    ready("pull", slug).ok()
    assert work_of(ready, slug) == "Mine"
    assert_clean(ready)


# Leftovers


def test_cleanup_removes_exactly_the_containers_and_volumes_of_this_home_that_have_no_state(
    engine: Engine, ready: Cli
) -> None:
    """Networks are not looked at: a bottle has none, and its sidecars are on one of the engine's own."""
    running = ready.start()
    kept = ready.start()
    ready("stop", kept).ok()
    networks = engine.docker("network", "ls", "--quiet")
    found = json.loads(
        engine.docker("inspect", "--format", "{{json .Config.Labels}}", f"claude-bottle-{running}")
    )
    home = found["io.claude-bottle.home"]
    lost, other = f"{ready.agent}-00000", f"{ready.agent}-11111"
    ours = [*labels(home, lost), "--label", "io.claude-bottle.role=agent"]
    theirs = [*labels("0123456789abcdef", other), "--label", "io.claude-bottle.role=agent"]
    before = whole(engine)
    for verb, name, marks in (
        ("run", f"claude-bottle-{lost}", ours),
        ("create", f"claude-bottle-sidecars-{lost}", ours),
        ("run", f"claude-bottle-{other}", theirs),
        ("create", f"claude-bottle-{ready.agent}-22222", []),
    ):
        detached = ["--detach"] if verb == "run" else []
        engine.docker(verb, *detached, "--init", "--name", name, *marks, BASE, "sleep", "1000")
    for name, marks in (
        (f"claude-bottle-{lost}", ours),
        (f"claude-bottle-{lost}-workspace", ours),
        (f"claude-bottle-{other}", theirs),
        (f"claude-bottle-{ready.agent}-22222", []),
    ):
        engine.docker("volume", "create", *marks, name)
    engine.docker("network", "create", f"{ready.agent}-alien")
    there = whole(engine)
    mine = {
        ("container", f"claude-bottle-{lost}"),
        ("container", f"claude-bottle-sidecars-{lost}"),
        ("volume", f"claude-bottle-{lost}"),
        ("volume", f"claude-bottle-{lost}-workspace"),
    }
    assert mine < there - before
    shown = ready("cleanup", "--dry-run").ok().rows
    assert {(row[0], row[1]) for row in shown} == mine
    assert {row[2] for row in shown} == {lost}
    assert whole(engine) == there, "it was only shown"
    gone = ready("cleanup", "--yes").ok().rows
    assert {(row[0], row[1]) for row in gone} == mine
    assert whole(engine) == there - mine
    assert ready("cleanup", "--yes").ok().out == b""
    ready.inside(running, "true").ok()
    ready("pull", kept).ok()
    for kind, name in whole(engine) - before:
        engine.docker(kind, "rm", *(["--force"] if kind != "network" else []), name)
    assert engine.docker("network", "ls", "--quiet") == networks
    ready("stop", running).ok()
    assert_clean(ready)


def labels(home: str, slug: str) -> list[str]:
    return ["--label", f"io.claude-bottle.home={home}", "--label", f"io.claude-bottle.slug={slug}"]


def whole(engine: Engine) -> set[tuple[str, str]]:
    """Everything that the engine holds, but images."""
    found = {("container", name) for name in engine.docker("ps", "-a", "--format", "{{.Names}}").split()}
    found |= {("volume", name) for name in engine.docker("volume", "ls", "--quiet").split()}
    return found | {
        ("network", name) for name in engine.docker("network", "ls", "--format", "{{.Name}}").split()
    }


# A start whose engine dies

MOMENTS = ["volume create", "container create", "container start", "container exec_start"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_start_whose_engine_dies_ends_and_leaves_nothing_that_runs(
    engine: Engine, ready: Cli, moment: str
) -> None:
    since = time.time()
    start_without_end(ready, lambda: await_event(engine, since, moment, ready.agent), engine.crash)
    ready.assert_nothing_runs()
    engine.start()
    assert ready.slugs() == []
    for slug in ready.preserved():  # what nobody could remove then can be asked for
        ready("pull", slug).ok()
    ready("cleanup", "--yes").ok()
    assert ready.containers() == []
    assert_starts(ready)


def test_a_start_whose_engine_dies_while_it_builds_an_image_ends(engine: Engine, ready: Cli) -> None:
    recipe = write(ready.root / "Dockerfile", f"FROM {BASE}\nRUN echo {ready.agent}; sleep 1000\n")
    ready.manifest(bottle=f"dockerfile: {recipe}\n")
    start_without_end(ready, lambda: eventually(lambda: bool(ready.processes("sleep 1000"))), engine.crash)
    ready.assert_nothing_runs()
    engine.start()
    ready.manifest()
    assert_clean(ready)
    assert_starts(ready)


def test_a_bottle_that_was_not_proved_does_not_stay_where_containers_outlive_their_engine(
    engine: Engine, ready: Cli
) -> None:
    engine.end(signal.SIGTERM)
    engine.start(live_restore=True)
    since = time.time()
    start_without_end(
        ready,
        # The second: git fills the workspace, when all is up and the proof is taken.
        lambda: await_event(engine, since, "container exec_start", ready.agent, times=2),
        lambda: engine.end(signal.SIGKILL),
    )
    # Nobody closes their input, and no engine could end them: they end since nobody speaks to them.
    theirs = {"envoy", "python3", "anchor", "docker-init"}
    eventually(lambda: not theirs & engine.programs(), lambda: f"left: {sorted(engine.programs())}")
    engine.start(live_restore=True)
    assert ready.slugs() == []
    assert_clean(ready)


def start_without_end(cli: Cli, wait: Callable[[], None], end: Callable[[], None]) -> None:
    """A start that loses its engine: one error, and no bottle."""
    with cli.begun("start", cli.agent, "--detach", "--yes") as process:
        wait()
        end()
        out, err = process.communicate()
    said = err.decode()
    assert (process.returncode, out, "Traceback" in said) == (1, b"", False), said
    assert said.count("claude-bottle: ") == 1, said


def await_event(engine: Engine, since: float, what: str, whose: str, *, times: int = 1) -> None:
    """Returns when the engine has said so often that it did `what` for something with this in its name."""
    argv = ["docker", "--host", engine.host, "events", "--since", f"{since:.9f}", "--format", "{{json .}}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as events:
        watchdog = threading.Timer(PATIENCE, events.kill)
        watchdog.start()
        try:
            assert events.stdout is not None
            seen = (line for line in events.stdout if is_about(json.loads(line), what, whose))
            assert len(list(islice(seen, times))) == times, "it never happened"
        finally:
            watchdog.cancel()
            events.kill()


def is_about(event: dict[str, Any], what: str, whose: str) -> bool:
    actor = event["Actor"]
    names = (actor["ID"], actor["Attributes"].get("name", ""))
    return f"{event['Type']} {event['Action']}".startswith(what) and any(whose in name for name in names)
