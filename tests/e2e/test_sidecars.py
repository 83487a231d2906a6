"""A sidecar that ends: nothing passes by it while it is away, it comes back as it was, and not for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, eventually
from tests.support.processes import command_of, descendants

pytestmark = pytest.mark.needs("envoy", "claude")

ASK = "curl -s -o /dev/null -w '%{http_connect} %{http_code}\\n' --max-time 10 -d {} https://api.anthropic.com/v1/messages"
DENIED = "curl -s -o /dev/null -w '%{http_connect}' --max-time 10 https://denied.example.org || true"
KILL = 'for it in /proc/[0-9]*; do [ "$(cat "$it/comm")" != envoy ] || kill -9 "${it#/proc/}"; done 2>/dev/null; true'


def kill_envoy(cli: Cli, slug: str) -> None:
    """If it is there."""
    if cli.backend == "docker":
        argv = ["docker", "exec", f"claude-bottle-sidecars-{slug}", "sh", "-c", KILL]
        subprocess.run(argv, capture_output=True, check=False)  # the container may have ended
    elif (keeper := cli.keeper_or_none(slug)) is not None:
        for pid in descendants(keeper):
            if command_of(pid) == "envoy":
                os.kill(pid, signal.SIGKILL)


def events(cli: Cli, slug: str, what: str) -> list[dict[str, Any]]:
    """What the bundle has told of Envoy."""
    lines = (
        json.loads(line) for line in (cli.state / slug / "log" / "decisions.jsonl").read_text().splitlines()
    )
    return [line for line in lines if line.get("event") == what and line.get("sidecar") == "egress"]


def services(cli: Cli) -> list[str]:
    (row,) = cli("list", "--json").ok().json["active"]
    found: list[str] = row["services"]
    return found


class Away:
    """As long as it lasts Envoy cannot be started: a folder is where a file must be."""

    def __init__(self, cli: Cli, slug: str) -> None:
        self._folder = cli.state / slug / "run" / "egress" / "clusters.json.new"

    def __enter__(self) -> None:
        self._folder.mkdir()

    def __exit__(self, *_: object) -> None:
        self._folder.rmdir()


def asking(cli: Cli, slug: str) -> Callable[[], list[str]]:
    """Asks from inside, again and again; how it ended each time, up to now, and that is the end of it."""
    cli.inside(slug, f"touch /tmp/go; (while [ -e /tmp/go ]; do {ASK}; done > /tmp/codes 2>/dev/null &)").ok()
    return lambda: cli.inside(slug, "rm /tmp/go; cat /tmp/codes").ok().text.splitlines()


def test_while_it_is_away_nothing_passes_and_then_all_is_as_before(cli: Cli, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    answer = cli.inside(slug, ASK).ok().text.strip()
    assert answer.startswith("200 "), "by way of the gate, and the server's own"
    assert services(cli) == ["egress", "firewall", "supervise"]
    # Whoever has taken Envoy over can write its files; the next one is not told by them what to do.
    names = ["clusters.json", "listeners.json", "envoy.json"]
    names += ["authorities.pem"] if cli.backend == "docker" else []  # elsewhere it cannot write them
    files = {cli.state / slug / "run" / "egress" / name: "" for name in names}
    for path in files:
        files[path] = path.read_text()
        path.write_text("{}")
    stop_asking = asking(cli, slug)
    with Away(cli, slug):
        kill_envoy(cli, slug)
        eventually(lambda: services(cli) == ["firewall", "supervise"])
        eventually(lambda: len(events(cli, slug, "sidecar-ended")) > 1)  # a start that failed as well
    eventually(lambda: services(cli) == ["egress", "firewall", "supervise"])
    eventually(lambda: cli.inside(slug, ASK).text.strip() == answer)
    assert {path: path.read_text() for path in files} == files
    codes = set(stop_asking())
    assert "502 000" in codes, "the gate says that there is no next stage"
    # A request that was under way was cut off.
    assert codes <= {answer, "502 000", "200 000"}
    assert cli.inside(slug, DENIED).text == "403"
    assert {request.headers.get("x-api-key") for request in idle.requests} == {cli.key}
    (ended, *failed), (restarted,) = (
        events(cli, slug, "sidecar-ended"),
        events(cli, slug, "sidecar-restarted"),
    )
    assert (ended["reason"], ended["attempt"], ended["program"]) == ("killed by SIGKILL", 1, "Envoy")
    assert {line["reason"] for line in failed} == {"it could not be started"}
    assert restarted["attempt"] == len(failed) + 1
    assert "sidecar-ended" in cli("logs", slug).ok().text
    cli("stop", slug).ok()
    cli.assert_nothing_is_left()


def test_it_is_confined_as_before(cli: Cli, idle: ScriptedModel) -> None:
    cli.manifest(idle.url)
    slug = cli.start()
    before = confinement(cli)
    kill_envoy(cli, slug)
    eventually(lambda: len(events(cli, slug, "sidecar-restarted")) == 1)
    assert confinement(cli) == before


def confinement(cli: Cli) -> dict[str, str]:
    (envoy,) = (pid for pid in cli.processes("--config-path") if command_of(pid) == "envoy")
    with open(f"/proc/{envoy}/status") as file:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    names = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    return {name: lines[name] for name in names}


def test_when_it_keeps_ending_so_does_the_bottle_and_its_work_is_there(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli.inside(slug, "echo '# mine' >> adder.py && git commit -qam Mine").ok()

    def has_ended() -> bool:
        kill_envoy(cli, slug)
        return cli.slugs() == []

    eventually(has_ended)
    cli.assert_nothing_runs()
    ended = events(cli, slug, "sidecar-ended")
    assert [line["attempt"] for line in ended] == [1, 2, 3, 4, 5, None]
    assert "Envoy keeps ending" in (cli.state / slug / "log" / "bundle.log").read_text()
    assert cli.preserved() == [slug]
    cli("pull", slug).ok()
    assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
    cli("stop", slug).ok()
    cli.assert_nothing_is_left()


def test_without_an_inspected_route_it_comes_back_all_the_same(cli: Cli) -> None:
    cli.manifest(bottle="egress:\n  routes:\n  - host: api.anthropic.com\n    inspect: false\n")
    slug = cli.start()
    kill_envoy(cli, slug)
    eventually(lambda: len(events(cli, slug, "sidecar-restarted")) == 1)
    assert services(cli) == ["egress", "firewall", "supervise"]
    assert cli.inside(slug, DENIED).text == "403"
