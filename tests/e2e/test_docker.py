"""What only containers can suffer: their engine's faults, their images' faults, and ends at any moment."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, eventually, write
from tests.support.e2e_status import SPEAK, becomes

pytestmark = [pytest.mark.backends("docker"), pytest.mark.needs("envoy", "claude")]
KILLS = 12
COMMIT = "git add --all && git commit -qm"


def engine(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check).stdout


def base_image() -> str:
    """The one that the images of this test run are made of."""
    local = "claude-bottle/base:bookworm"
    return local if engine("images", "--quiet", local) else "debian:bookworm-slim"


def assert_clean(cli: Cli) -> None:
    """`cleanup` finds whatever is left, and then nothing is."""
    cli("cleanup", "--yes").ok()
    eventually(lambda: cli.containers() == [], lambda: str(cli.containers()))
    states = {path.name for path in cli.state.glob(f"{cli.agent}-*")}
    kept = {name.removeprefix("claude-bottle-")[: len(cli.agent) + 6] for name in cli.volumes()}
    assert kept <= states
    assert cli("cleanup", "--yes").ok().out == b""


# Images


def test_a_bottle_may_be_made_of_an_image_of_its_own(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    recipe = write(cli.root / "Dockerfile", f"FROM {base_image()}\nRUN echo mine > /etc/marker\n")
    cli.manifest(idle.url, bottle=f"dockerfile: {recipe}\npackages: [jq]\n")
    slug = cli.start()
    assert cli.inside(slug, "cat /etc/marker; jq -n 1; id -un").ok().text == "mine\n1\nnode\n"
    images = engine("inspect", "--format", "{{.Config.Image}}", f"claude-bottle-{slug}")
    cli("stop", slug).ok()
    again = cli("start", cli.agent, "--detach", "--yes").ok()
    assert "image agent" not in again.talk, "what is there is not built once more"
    assert engine("inspect", "--format", "{{.Config.Image}}", f"claude-bottle-{again.text.strip()}") == images


def test_an_image_that_cannot_be_built_shows_why_and_leaves_no_bottle(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    recipe = write(
        cli.root / "Dockerfile", f"FROM {base_image()}\nRUN echo the-reason-why && false # {cli.agent}\n"
    )
    cli.manifest(idle.url, bottle=f"dockerfile: {recipe}\n")
    cli("start", cli.agent, "--detach", "--yes").failed(1, "cannot be built", "the-reason-why")
    assert (cli.slugs(), cli.preserved(), cli.containers(), cli.volumes()) == ([], [], [], [])


def test_limits_hold(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url, bottle="limits: {memory: 300M, pids: 60, cpus: 1}\n")
    slug = cli.start()
    done = cli.inside(slug, "for n in $(seq 100); do sleep 3 & done; wait")
    assert done.status != 0
    assert "fork" in done.talk
    eventually(lambda: cli.inside(slug, "/bin/true; /bin/true").status == 0)
    done = cli.inside(slug, "python3 -c 'x = bytearray(600 << 20)'")
    assert done.status in (1, 137)
    assert cli.inside(slug, "echo alive").ok().text == "alive\n"


# Ends


@pytest.mark.parametrize("victim", ["agent", "sidecars", "envoy", "anchor", "bundle"])
def test_when_a_part_dies_the_bottle_holds_or_ends(ready: Cli, victim: str) -> None:
    slug = ready.start()
    ready.inside(slug, "(sleep 1000 &) ; echo '# mine' >> adder.py").ok()
    agent, sidecars = f"claude-bottle-{slug}", f"claude-bottle-sidecars-{slug}"
    if victim in ("agent", "sidecars"):
        engine("kill", agent if victim == "agent" else sidecars)
    else:
        words = {"envoy": "--config-path", "anchor": "bin/anchor 9098", "bundle": "sidecars.container"}
        container = agent if victim == "anchor" else sidecars
        rows = engine("top", container, "-eo", "pid,args").splitlines()[1:]
        pids = [row.split()[0] for row in rows if words[victim] in row and "init" not in row]
        assert pids
        subprocess.run(["kill", "-KILL", *pids], check=True)
    if victim != "envoy":
        eventually(lambda: ready.slugs() == [])
        eventually(lambda: engine("ps", "--quiet", "--filter", f"name={ready.agent}") == "")
    elif slug in ready.slugs():
        assert ready.inside(slug, "curl -sS https://denied.example.org").status != 0
    ready("pull", slug).ok()
    assert ready.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# mine")
    ready("stop", slug).ok()
    assert_clean(ready)


def test_a_start_that_is_killed_leaves_a_working_bottle_or_none(ready: Cli) -> None:
    ready("stop", ready.start()).ok()  # the images are there
    for attempt in range(KILLS):
        with ready.begun("start", ready.agent, "--detach", "--yes") as process:
            time.sleep(random.uniform(0, 0.2) + attempt * 0.12)
            process.kill()
            process.communicate()
        eventually(lambda: not ready.processes(f"start {ready.agent}"))
        time.sleep(0.5)  # what the engine was just told to make
        for slug in ready.slugs():
            if ready.inside(slug, "true").status == 0:
                ready("stop", slug).ok()
            else:  # it is on its way out
                eventually(lambda slug=slug: slug not in ready.slugs())
        eventually(lambda: engine("ps", "--quiet", "--filter", f"name={ready.agent}") == "")
        assert_clean(ready)
    ready("stop", ready.start()).ok()


@contextmanager
def taken(name: str) -> Iterator[None]:
    """Somebody else's container of this name."""
    engine("create", "--name", name, base_image(), "true")
    try:
        yield
        assert engine("ps", "--all", "--quiet", "--filter", f"name=^{name}$") != "", (
            "it is not ours to remove"
        )
    finally:
        engine("rm", "--force", name, check=False)


@pytest.mark.parametrize("role", ["claude-bottle-", "claude-bottle-sidecars-"])
def test_a_name_that_is_taken_ends_the_start_and_is_left_alone(
    ready: Cli, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from claude_bottle.errors import BottleError
    from claude_bottle.operations.launch import launch
    from tests.support.bottles import make_world, no_progress, nobody_asks

    world = make_world(ready.root / "world", "docker")
    prepared = world.prepare()
    with taken(role + prepared.metadata.slug):
        with pytest.raises(BottleError, match="already in use"):
            launch(world.context, prepared, no_progress, nobody_asks)
        found = engine("ps", "--all", "--format", "{{.Names}}", "--filter", f"name={prepared.metadata.slug}")
        assert found.split() == [role + prepared.metadata.slug]
    assert not prepared.paths.root.exists()
    assert engine("volume", "ls", "--quiet", "--filter", f"name={prepared.metadata.slug}") == ""


# An engine that is not there


def test_an_engine_that_is_gone_hides_nothing_and_holds_nobody_up(ready: Cli) -> None:
    slug = ready.start()
    dead = {"DOCKER_HOST": f"unix://{ready.root}/no-engine.sock"}
    ready("exec", slug, "--", "true", env=dead).failed(1, "the engine does not answer")
    ready("start", ready.agent, "--detach", "--yes", env=dead).failed(5, "docker cannot be used here")
    listed = ready("list", env=dead)
    assert listed.status == 0
    assert "what runs there is not known" in listed.talk
    ready("logs", slug, env=dead).ok()  # they are on this host
    unknown = ready("cleanup", "--yes", env=dead)
    assert (unknown.status, "what runs there is not known" in unknown.talk) == (1, True)
    stopped = ready("stop", slug, env=dead)
    assert stopped.status != 0
    assert "Traceback" not in stopped.talk
    assert ready.slugs() == [slug]
    ready.inside(slug, f"echo '# mine' >> adder.py; {COMMIT} Mine").ok()
    ready("stop", slug).ok()
    assert ready.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"


def test_containers_are_grouped_as_composes_own(ready: Cli) -> None:
    slug = ready.start()
    for role, name in (("agent", f"claude-bottle-{slug}"), ("sidecars", f"claude-bottle-sidecars-{slug}")):
        labels = json.loads(engine("inspect", "--format", "{{json .Config.Labels}}", name))
        assert labels["com.docker.compose.project"] == f"claude-bottle-{slug}"
        assert labels["com.docker.compose.service"] == role


def test_leftovers_of_every_kind_are_found_shown_and_removed(ready: Cli) -> None:
    slug = ready.start()
    ready.kill(slug)
    eventually(lambda: ready.slugs() == [])
    (state,) = ready.state.glob(slug)
    shown = ready("cleanup", "--dry-run").ok().rows
    assert {(row[0], row[2]) for row in shown} == {("container", slug)}
    assert ready.containers() != []
    unasked = ready("cleanup")
    assert (unasked.status, "no terminal" in unasked.talk) == (2, True)
    ready("cleanup", "--yes").ok()
    assert ready.containers() == []
    assert ready.volumes() != [], "the work is in there"
    purged = ready("cleanup", "--yes", "--purge", slug).ok().rows
    assert [row[0] for row in purged] == ["preserved state"]
    assert (ready.volumes(), Path(state).exists()) == ([], False)
    ready("cleanup", "--purge", slug, "--yes").failed(3, "there is no bottle")


def test_a_home_that_has_lost_its_identity_gets_no_other_beside_its_bottles(ready: Cli) -> None:
    """Else the containers that bear the old one would be nobody's."""
    slug = ready.start()
    identity = ready.home / "identity"
    word = identity.read_text()
    identity.unlink()
    ready("start", ready.agent, "--detach", "--yes").failed(1, "identity is gone", "put it back")
    assert "identity is gone" in ready("list").talk
    assert not identity.exists()
    identity.write_text(word)
    assert (ready.slugs(), ready.preserved()) == ([slug], [])
    ready("stop", slug).ok()


# A bottle that is started again

PLANT = """
    mkdir -p ~/.claude/projects/p ~/elsewhere && echo planted > ~/.claude/projects/p/planted.jsonl
    echo mine > ~/elsewhere/planted.jsonl
"""
SWAPS = {
    "the folder": "rm -r projects && ln -s ../elsewhere projects && mkdir ../elsewhere/p",
    "its folder": "rm -r projects/p && ln -s ../../elsewhere projects/p",
    "a folder by its whole path": "rm -r projects/p && ln -s /home/node/elsewhere projects/p",
    "the file": "ln -sf ../../../elsewhere/planted.jsonl projects/p/planted.jsonl",
    "another name of the file": "ln -f ../elsewhere/planted.jsonl projects/p/planted.jsonl",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_transcript_that_is_put_back_goes_through_no_link_of_an_agent(ready: Cli, swap: str) -> None:
    """The engine unpacks it as root, into a volume that is the agent's to prepare."""
    slug = ready.start()
    ready.inside(slug, f"{PLANT} {COMMIT} Mine --allow-empty").ok()
    ready.kill(slug)
    eventually(lambda: ready.slugs() == [])
    in_home = ("run", "--rm", "--volume", f"claude-bottle-{slug}:/home/node", base_image(), "sh", "-ec")
    engine(*in_home, f"cd /home/node/.claude && {SWAPS[swap]}")
    kept = ready.state / slug / "home" / ".claude" / "projects" / "p" / "planted.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("put back\n")
    ready("pull", slug).ok()
    put_back = engine(*in_home, "cat /home/node/.claude/projects/p/planted.jsonl")
    elsewhere = engine(*in_home, "cd /home/node/elsewhere && find . -type f -exec cat {} +")
    assert (put_back, elsewhere) == ("put back\n", "mine\n")
    assert ready.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"


# An engine that is elsewhere


FAR = "ssh://operator@far.example.org"
SSH = """#!/bin/sh
# Whatever host is asked for, it is this one.
unset DOCKER_HOST
while [ "$1" != docker ]; do shift; done
exec "$@"
"""


@pytest.fixture
def far(cli: Cli) -> Cli:
    """Its client believes that the engine is on another machine."""
    program = write(cli.root / "bin" / "ssh", SSH)
    program.chmod(0o755)
    cli.repository()
    cli.manifest(bottle="egress: {allowlist: [docs.python.org]}\n")
    cli.more |= {"PATH": f"{program.parent}:{cli.env['PATH']}", "DOCKER_HOST": FAR}
    return cli


def test_on_an_engine_elsewhere_files_are_copied_and_the_work_comes_back(far: Cli) -> None:
    shown = far("start", far.agent, "--dry-run").ok().talk
    assert FAR in shown
    slug = far.start()
    mounts = json.loads(engine("inspect", "--format", "{{json .Mounts}}", f"claude-bottle-{slug}"))
    sidecars = json.loads(engine("inspect", "--format", "{{json .Mounts}}", f"claude-bottle-sidecars-{slug}"))
    assert [mount for mount in [*mounts, *sidecars] if mount["Type"] == "bind"] == []
    assert far.slugs() == [slug]
    far.inside(slug, f"grep -q add adder.py && echo '# mine' >> adder.py && {COMMIT} Mine").ok()
    assert far.inside(slug, "curl -sS https://denied.example.org").status != 0
    assert "denied.example.org" in far("logs", slug).ok().text
    far("stop", slug).ok()
    assert far.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
    assert "denied.example.org" in far("logs", slug).ok().text
    assert_clean(far)


def test_what_an_agent_does_on_an_engine_elsewhere_is_asked_of_the_engine(far: Cli) -> None:
    slug = far.start()
    becomes(far, "idle")
    assert not (far.state / slug / "sessions").exists()
    with far.begun("exec", slug, "--", "bash", "-c", SPEAK) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert becomes(far, "waiting for input", "dialog open")["memory"] > 0
        far.inside(slug, "cd ~/.claude; mv sessions ours; ln -s /etc sessions").ok()
        becomes(far, "idle")
        far.inside(slug, "cd ~/.claude; rm sessions; mv ours sessions").ok()
        becomes(far, "waiting for input", "dialog open")
    becomes(far, "exited")
    far("stop", slug).ok()


@pytest.mark.parametrize("mode", ["overlay", "bind"])
def test_what_needs_the_hosts_own_files_is_refused_there(far: Cli, mode: str) -> None:
    far("start", far.agent, "--detach", "--yes", "--workspace", mode).failed(2, mode, "use clone or copy")
    assert (far.preserved(), far.containers()) == ([], [])


def test_a_route_to_this_hosts_loopback_is_refused_there(far: Cli, idle: ScriptedModel) -> None:
    far.manifest(idle.url)
    far("start", far.agent, "--detach", "--yes").failed(2, "the engine is elsewhere", "host.docker.internal")
