"""`stop`: several at once, everything, during a start, twice, and of what is half dead; all end well."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, eventually

pytestmark = pytest.mark.needs("envoy", "claude")

COMMIT = "echo '# mine' >> adder.py && git add --all && git commit -qm Mine"


@pytest.fixture
def operator_cli(cli: Cli, idle: ScriptedModel) -> Cli:
    cli.repository()
    cli.manifest(idle.url)
    return cli


def why(cli: Cli, slug: str) -> str:
    return str(json.loads((cli.state / slug / "preserved.json").read_text())["why"])


def test_all_that_runs_is_stopped(operator_cli: Cli) -> None:
    cli = operator_cli
    assert cli("stop", "--all").ok().talk == ""
    first, second = cli.start(), cli.start("--workspace", "none")
    talk = cli("stop", "--all").ok().talk
    for slug in (first, second):
        assert f"{slug} stopped" in talk
        assert f"claude-bottle resume {slug}" in talk
        assert why(cli, slug) == "stopped"
    assert (cli.slugs(), sorted(cli.preserved())) == ([], sorted([first, second]))
    cli.assert_nothing_is_left()


def test_it_is_said_what_to_stop(operator_cli: Cli) -> None:
    operator_cli("stop").failed(2, "--all")
    operator_cli("stop", "--all", "some-12345").failed(2, "--all")


def test_one_that_fails_does_not_keep_the_others_running(operator_cli: Cli) -> None:
    cli = operator_cli
    broken, sound = cli.start("--workspace", "none"), cli.start()
    metadata = cli.state / broken / "metadata.json"
    text = metadata.read_text()
    metadata.write_text("garbage")
    done = cli("stop", broken, "nobody-12345", sound)
    done.failed(1, "cannot be read", "there is no bottle 'nobody-12345'", f"{sound} stopped")
    assert cli("stop", broken, broken).failed(1).talk.count("cannot be read") == 1
    metadata.write_text(text)
    assert cli("stop", broken, broken).ok().talk.count(f"{broken} stopped") == 1
    cli.assert_nothing_is_left()


@pytest.mark.parametrize("moment", ["metadata.json", "run", "home", "authorities.pem"])
def test_a_stop_during_a_start_ends_well(operator_cli: Cli, moment: str) -> None:
    """It comes before the launch, which then does not happen; or it waits for it, and ends what it made."""
    cli = operator_cli
    with cli.begun("start", cli.agent, "--detach", "--yes") as starting:
        eventually(
            lambda: bool(list(cli.state.glob(f"{cli.agent}-*/{moment}"))) or starting.poll() is not None
        )
        (slug,) = [path.parent.name for path in cli.state.glob(f"{cli.agent}-*/metadata.json")]
        stopping = cli("stop", slug)
        talk = starting.communicate()[1].decode() + stopping.talk
    assert "Traceback" not in talk, talk
    assert stopping.status in (0, 3), stopping.everything
    if starting.returncode == 0:
        assert f"{slug} stopped" in stopping.talk, talk
    else:
        assert starting.returncode == 1, talk
        assert "stopped before it had begun" in talk
    assert cli.slugs() == [], talk
    cli.assert_nothing_is_left()


def test_many_stops_at_once_agree(operator_cli: Cli) -> None:
    cli = operator_cli
    slug = cli.start()
    cli.inside(slug, COMMIT).ok()
    beginning = [cli.begun("stop", *what) for what in ([slug], ["--all"], [slug], [slug])]
    processes = [each.__enter__() for each in beginning]
    talks = [process.communicate()[1].decode() for process in processes]
    for each in beginning:
        each.__exit__(None, None, None)
    assert {process.returncode for process in processes} == {0}, talks
    assert "".join(talks).count(f"{slug} stopped") == 1, talks
    assert why(cli, slug) == "stopped"
    assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
    cli.assert_nothing_is_left()


def kill_part(cli: Cli, slug: str, part: str) -> None:
    if cli.backend == "docker":
        name = {"agent": f"claude-bottle-{slug}", "sidecars": f"claude-bottle-sidecars-{slug}"}[part]
        subprocess.run(["docker", "kill", name], capture_output=True, check=True)
    else:
        (pid, *_) = [cli.keeper(slug)] if part == "sidecars" else cli.processes("bwrap ")
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("part", ["agent", "sidecars"])
def test_one_that_is_half_dead_is_stopped_and_nothing_of_it_is_lost(operator_cli: Cli, part: str) -> None:
    cli = operator_cli
    slug = cli.start()
    cli.inside(slug, f"{COMMIT}; mkdir -p ~/.claude/projects/-home-node-workspace").ok()
    cli.inside(slug, "echo '{}' > ~/.claude/projects/-home-node-workspace/late.jsonl").ok()
    kill_part(cli, slug, part)
    done = cli("stop", slug)
    assert (done.status in (0, 1), "Traceback" in done.talk) == (True, False), done.everything
    assert cli.slugs() == []
    assert cli.preserved() == [slug]
    cli.assert_nothing_is_left()
    assert (cli.home / "archive" / slug / "transcript/projects/-home-node-workspace/late.jsonl").exists()
    cli("pull", slug).ok()
    assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
    cli("resume", slug, "--detach", "--yes").ok()
    assert cli.inside(slug, "git log -1 --format=%s").text == "Mine\n"
    cli("stop", slug).ok()


def test_more_than_can_be_kept_is_told_and_nothing_is_removed(operator_cli: Cli) -> None:
    cli = operator_cli
    slug = cli.start("--workspace", "none")
    cli.inside(
        slug, "mkdir -p ~/.claude/projects/p && cd ~/.claude/projects/p && seq -f %g.jsonl 9000 | xargs touch"
    ).ok()
    done = cli("stop", slug)
    done.failed(1, "of the transcript could not be taken", f"claude-bottle resume {slug}")
    assert "of the transcript could not be taken" in why(cli, slug)
    assert cli.preserved() == [slug]
