"""Whatever is killed, and whenever: a bottle that is listed works and holds, and what is not listed does not run."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, eventually

pytestmark = [pytest.mark.backends("bubblewrap"), pytest.mark.needs("envoy", "claude")]

KILLS = 20
DENIED = "curl -s -o /dev/null -w '%{http_connect}' https://denied.example.org || true"


def assert_listed_works_and_nothing_else_runs(cli: Cli) -> list[str]:
    """Returns what is listed. What the kernel is still ending may take its moment."""
    if cli.slugs() == []:
        cli.assert_nothing_runs()
    found = []
    for slug in cli.slugs():
        if cli("exec", slug, "--", "true").status == 0 or not ends(cli, slug):
            cli("exec", slug, "--", "true").ok()
            assert cli.inside(slug, DENIED).text == "403"
            found.append(slug)
    return found


def ends(cli: Cli, slug: str) -> bool:
    """Whether it was only listed still: what was not kept when its start was killed takes a moment to end."""
    deadline = time.monotonic() + 10
    while slug in cli.slugs() and time.monotonic() < deadline:
        time.sleep(0.05)
    return slug not in cli.slugs()


def cradles(cli: Cli) -> list[str]:
    """Folders in which an Envoy comes up that has no bottle yet."""
    return [path.name for path in cli.state.glob(".cradle-*")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_that_ends_before_it_has_a_bottle_leaves_nothing(
    cli: Cli, idle: ScriptedModel, number: signal.Signals
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with cli.begun("start", cli.agent, "--detach", "--yes") as process:
        eventually(lambda: bool(cradles(cli)) or process.poll() is not None)
        process.send_signal(number)
        _, err = process.communicate()
    assert b"Traceback" not in err, err
    eventually(lambda: not cradles(cli))
    for slug in cli.slugs():
        cli("stop", slug).ok()
    cli.assert_nothing_is_left()


def test_a_start_that_cannot_be_planned_leaves_nothing(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    done = cli("start", "nobody-of-that-name", "--detach", "--yes")
    assert (done.status, "there is no agent" in done.talk) == (3, True), done.everything
    assert cradles(cli) == []
    cli.assert_nothing_is_left()


def test_a_start_that_is_killed_leaves_a_working_bottle_or_none(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    seen = set()
    for _ in range(KILLS):
        moment = random.uniform(0, 1)
        with cli.begun("start", cli.agent, "--detach", "--yes") as process:
            time.sleep(moment)
            process.kill()
            out, err = process.communicate()
        eventually(lambda: not cli.processes(f"start {cli.agent}"))
        running = assert_listed_works_and_nothing_else_runs(cli)
        eventually(lambda: not cradles(cli))
        assert len(running) <= 1, (moment, out, err)
        if process.returncode == 0:
            assert running == [out.decode().strip()]
        left = {path.name for path in cli.state.glob(f"{cli.agent}-*")} if cli.state.is_dir() else set()
        assert {*cli.preserved(), *running} == left
        for slug in left - seen:
            ended = cli("stop", slug)
            assert (ended.status in (0, 1), "Traceback" in ended.talk) == (True, False), ended.everything
        cli.assert_nothing_is_left()
        seen |= left
    for slug in seen:  # what is left can be asked for, and says what it is
        done = cli("pull", slug)
        assert (done.status in (0, 1), "Traceback" in done.talk) == (True, False), done.everything
    cli.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_start_that_is_interrupted_undoes_what_it_did(
    cli: Cli, idle: ScriptedModel, number: signal.Signals
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with cli.begun("start", cli.agent, "--detach", "--yes") as process:
        eventually(lambda: bool(list(cli.state.glob("*/run/lock")) or process.poll() is not None))
        process.send_signal(number)
        out, err = process.communicate()
    if process.returncode == 0:  # it was quicker: then it is a bottle like any other
        assert cli.slugs() == [out.decode().strip()]
        return
    assert (process.returncode, out, b"Traceback" in err) == (128 + number, b"", False), err
    assert (cli.slugs(), cli.preserved()) == ([], [])
    cli.assert_nothing_is_left()


@pytest.mark.parametrize("victim", ["keeper", "envoy", "bwrap"])
def test_when_a_part_of_a_bottle_dies_the_bottle_holds_or_ends(
    cli: Cli, idle: ScriptedModel, victim: str
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.inside(slug, "(sleep 1000 &) ; echo '# mine' >> adder.py").ok()
    words = {"envoy": "--config-path", "bwrap": "bwrap "}
    killed = [cli.keeper(slug)] if victim == "keeper" else cli.processes(words[victim])
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not set(killed) & set(cli.processes("")))
    running = assert_listed_works_and_nothing_else_runs(cli)
    assert running in ([], [slug])
    cli("pull", slug).ok()
    assert cli.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# mine")
    cli("stop", slug).ok()
    cli.assert_nothing_is_left()


def test_a_hundred_commands_at_once_find_the_same_bottle(cli: Cli, idle: ScriptedModel) -> None:
    """Lists, commands and pulls beside each other, with one stop among them: each is served or says why not."""
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.inside(slug, "echo '# mine' >> adder.py").ok()
    from concurrent.futures import ThreadPoolExecutor

    commands = [
        ["list"],
        ["exec", slug, "--", "true"],
        ["pull", slug],
        ["list", "preserved"],
        ["diff", slug],
    ] * 5
    commands[12:12] = [["stop", slug]]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda command: (command, cli(*command)), commands))
    for command, each in done:
        assert "Traceback" not in each.talk, (command, each.everything)
        allowed = {0, 1, 125, 137} if command[0] == "exec" else {0}
        assert each.status in allowed, (command, each.everything)
    assert cli.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# mine")
    assert cli.slugs() == []
    cli.assert_nothing_is_left()
