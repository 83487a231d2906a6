"""A bottle that nobody is attached to: any process finds it, works in it, takes its work, ends it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.e2e.conftest import operator
from tests.support.e2e import Cli, eventually, scripted

pytestmark = pytest.mark.needs("envoy", "claude")

COMMIT = "git add --all && git commit -qm"


@pytest.fixture(scope="module")
def shared(backend: str, claude_binary: Path, envoy_binary: Path) -> Iterator[tuple[Cli, str]]:
    """One running bottle for all tests that only look."""
    with scripted({"say": "Hello."}) as model:
        for cli in operator(backend, claude_binary, envoy_binary):
            cli.repository()
            cli.manifest(model.url)
            yield cli, cli.start()


@pytest.fixture
def bottle(cli: Cli, idle: ScriptedModel) -> tuple[Cli, str]:
    """A running bottle of the test's own."""
    cli.repository()
    cli.manifest(idle.url)
    return cli, cli.start()


def test_start_prints_the_slug_and_nothing_else(anyone: Cli, idle: ScriptedModel) -> None:
    cli = anyone
    cli.repository()
    cli.manifest(idle.url)
    done = cli("start", cli.agent, "--detach", "--yes").ok()
    assert re.fullmatch(rf"{cli.agent}-[0-9a-z]{{5}}\n", done.text)
    slug = done.text.strip()
    assert cli("list").ok().text == f"{cli.backend}\t{slug}\t{cli.agent}\tegress,firewall,supervise\n"
    assert cli.inside(slug, "cat adder.py; id -un; pwd").ok().text.endswith("node\n/home/node/workspace\n")
    cli("stop", slug).ok()
    cli.assert_nothing_is_left()


def test_list_as_json_has_a_schema_and_the_same_values(shared: tuple[Cli, str]) -> None:
    cli, slug = shared
    listed = cli("list", "--json").ok().json
    (row,) = listed["active"]
    assert (listed["schema"], listed["warnings"]) == (1, [])
    assert row.pop("started_at") > 0
    assert 0 < row.pop("memory") < 1 << 30
    assert row == {
        "backend": cli.backend,
        "slug": slug,
        "agent": cli.agent,
        "services": ["egress", "firewall", "supervise"],
        "bottle": "dev",
        "workspace": "clone",
        "origin": str(cli.project),
        "branch": f"bottle/{slug}",
        "status": "idle",
        "waiting_for": None,
        "since": None,
        "down": [],
        "approvals": 0,
    }


def test_bottles_are_listed_by_their_start(shared: tuple[Cli, str]) -> None:
    cli, first = shared
    second = cli.start("--workspace", "none")
    assert cli.slugs() == [first, second]
    cli("stop", second).ok()
    assert cli.slugs() == [first]


def test_exec_is_a_pipe_to_the_command(shared: tuple[Cli, str]) -> None:
    cli, slug = shared
    every_byte = bytes(range(256)) * 4096
    done = cli.inside(slug, "cat; echo talk >&2; exit 7", stdin=every_byte)
    assert (done.status, done.out, done.err) == (7, every_byte, b"talk\n")
    assert (
        cli("exec", slug, "--", "printf", "%s|", "a b", "$HOME", "*", "-x", "--", "").text
        == "a b|$HOME|*|-x|--||"
    )
    assert cli("exec", "-w", "/tmp", slug, "pwd").text == "/tmp\n"
    assert cli("exec", slug, "-w", "/tmp", "pwd").text == "/tmp\n"
    assert cli.inside(slug, "kill -TERM $$").status == 143
    assert cli("exec", slug, "--", "no-such-program").failed(127, "no-such-program: not found in the bottle")


@pytest.mark.parametrize("arguments", [["--"], [], ["-t", "--", "true"]])
def test_exec_needs_a_command_and_a_terminal_where_one_is_asked_for(
    shared: tuple[Cli, str], arguments: list[str]
) -> None:
    cli, slug = shared
    cli("exec", slug, *arguments).failed(2)


@pytest.mark.parametrize(
    "command",
    [["exec", "SLUG", "--", "true"], ["stop", "SLUG"], ["pull", "SLUG"], ["diff", "SLUG"], ["logs", "SLUG"]],
)
def test_a_slug_that_is_not_there_is_exit_3_with_the_nearest(
    shared: tuple[Cli, str], command: list[str]
) -> None:
    cli, slug = shared
    wrong = f"{slug[:-1]}{'a' if slug[-1] != 'a' else 'b'}"
    done = cli(*(wrong if word == "SLUG" else word for word in command))
    done.failed(3, wrong, f"did you mean {slug}?")


HOSTILE = [
    "a\nb",
    "tab\tb",
    "\x1b]2;title\x07",
    "../../etc",
    "'quoted'",
    '"',
    "",
    "x" * 5000,
    "\N{RIGHT-TO-LEFT OVERRIDE}abc-12345",
]


@pytest.mark.parametrize("name", [*HOSTILE, b"caf\xe9", "-dash", "--", "a-\nbcde"], ids=ascii)
def test_a_hostile_name_is_an_error_that_is_safe_to_read(shared: tuple[Cli, str], name: str | bytes) -> None:
    cli, _ = shared
    for command in ("stop", "logs", "start"):
        done = cli(command, name, *(["--detach", "--yes"] if command == "start" else []))
        assert done.status in (2, 3), done.everything
        done.failed(done.status)
        assert all(char == "\n" or char.isprintable() for char in done.talk), done.everything
        assert len(done.talk) < 2000
    assert len(cli.slugs()) == 1


def test_logs_show_what_was_decided(shared: tuple[Cli, str]) -> None:
    cli, slug = shared
    ask = "curl -sS -o /dev/null -w '%{http_connect}' https://HOST/secret-path; true"
    refused = cli.inside(slug, ask.replace("HOST", "denied.example.org"))
    assert refused.text == "403"
    as_text = cli("logs", slug).ok().text
    (line,) = [line for line in as_text.splitlines() if "denied.example.org" in line]
    assert " deny " in line
    as_json = [json.loads(line) for line in cli("logs", slug, "--json").ok().text.splitlines()]
    (event,) = [event for event in as_json if event.get("host") == "denied.example.org"]
    assert (event["verdict"], event["port"]) == ("deny", 443)
    for service in ("requests", "envoy", "bundle"):
        cli("logs", slug, service).ok()


def test_logs_follow_until_they_are_interrupted(shared: tuple[Cli, str]) -> None:
    cli, slug = shared
    with cli.begun("logs", "-f", slug) as follower:
        assert follower.stdout is not None
        cli.inside(slug, "curl -sS https://while-following.example.org").failed(56)
        lines = iter(follower.stdout.readline, b"")
        assert any(b"while-following.example.org" in line for line in lines)
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate(timeout=60)
    assert (follower.returncode, b"Traceback" in err) == (130, False)


def test_hostile_lines_cannot_reach_the_terminal_from_the_logs(shared: tuple[Cli, str]) -> None:
    cli, slug = shared
    cli.inside(
        slug,
        r"printf 'CONNECT \033]2;owned\007.example.org:443 HTTP/1.1\r\n\r\n' | nc -w 2 127.0.0.1 9099 || true",
    )
    script = "import socket; s = socket.create_connection(('127.0.0.1', 9099)); s.sendall(b'CONNECT \\x1b]2;owned\\x07:443 HTTP/1.1\\r\\n\\r\\n'); s.recv(99)"
    cli("exec", slug, "--", "python3", "-c", script).ok()
    for service in ("decisions", "requests", "envoy", "bundle"):
        out = cli("logs", slug, service).ok().out
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", out)


def test_diff_and_pull_while_it_runs_and_after_it_was_stopped(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    for command in ("diff", "pull"):
        done = cli(command, slug).ok()
        assert (done.out, f"{slug} has changed nothing yet" in done.talk) == (b"", True)

    cli.inside(slug, f"echo '# one' >> adder.py; {COMMIT} One; echo '# two' >> adder.py").ok()
    diff = cli("diff", slug).ok().text
    assert "\n+# one\n+# two\n" in diff
    assert cli("diff", slug, "--stat").ok().text.splitlines()[0].split() == ["adder.py", "|", "2", "++"]
    branch, uncommitted = f"refs/bottles/{slug}/heads/bottle/{slug}", f"refs/bottles/{slug}/uncommitted"
    first = cli("pull", slug).ok().rows
    assert {ref: cli.git("rev-parse", ref) for ref in (branch, uncommitted)} == {
        ref: commit for commit, ref in first
    }

    cli.inside(slug, f"{COMMIT} Two").ok()
    cli("stop", slug).ok()
    pulled = cli("pull", slug, "--json").ok().json
    assert pulled["slug"] == slug
    assert {"ref": branch, "commit": cli.git("rev-parse", branch)} in pulled["work"]
    assert cli.git("log", "--format=%s", branch) == "Two\nOne\nStart"
    assert "\n+# one\n+# two\n" in cli("diff", slug).ok().text
    assert cli.slugs() == []
    cli.assert_nothing_is_left()


def test_a_ref_of_what_was_not_committed_goes_when_it_is_committed(bottle: tuple[Cli, str]) -> None:
    """Else the tip that `diff` and `report` name would be old work."""
    cli, slug = bottle
    cli.inside(slug, "echo '# one' >> adder.py").ok()
    cli("pull", slug).ok()
    cli.inside(slug, f"{COMMIT} One; echo '# two' >> adder.py; {COMMIT} Two").ok()
    cli("pull", slug).ok()
    assert set(cli.refs(slug)) == {f"heads/bottle/{slug}"}
    assert "+# two" in cli("diff", slug).ok().text


def test_stop_can_be_said_twice(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    assert f"{slug} stopped" in cli("stop", slug).ok().talk
    assert f"{slug} was not running" in cli("stop", slug).ok().talk
    assert cli.preserved() == [slug]
    assert cli("exec", slug, "--", "true").failed(1, f"{slug} is not running", f"claude-bottle pull {slug}")
    cli.assert_nothing_is_left()


def test_of_several_slugs_a_wrong_one_does_not_keep_the_others_running(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    second = cli.start("--workspace", "none")
    done = cli("stop", slug, "nobody-12345", second)
    done.failed(3, f"{slug} stopped", f"{second} stopped", "there is no bottle 'nobody-12345'")
    assert cli.slugs() == []


def test_two_at_once_may_stop_it(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    with cli.begun("stop", slug) as first, cli.begun("stop", slug) as second:
        talk = first.communicate()[1] + second.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 0), talk
    assert (talk.count(b"stopped"), talk.count(b"was not running")) == (1, 1)


def test_the_work_of_a_bottle_whose_keeper_was_killed_is_not_lost(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    cli.inside(slug, f"echo '# early' >> adder.py; {COMMIT} Early").ok()
    cli("pull", slug).ok()  # what is known then must not be taken for the last of it
    cli.inside(slug, f"echo '# late' >> adder.py; {COMMIT} Late; echo '# open' >> adder.py").ok()
    cli.kill(slug)
    eventually(lambda: cli.slugs() == [])
    cli("exec", slug, "--", "true").failed(1, "is not running")
    assert cli.preserved() == [slug]
    cli("pull", slug).ok()
    assert cli.git("log", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Late\nEarly\nStart"
    assert cli.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# late\n# open")
    assert cli.slugs() == []
    cli("stop", slug).ok()
    cli("stop", slug).ok()
    cli("pull", slug).ok()
    cli.assert_nothing_is_left()


def test_dead_work_comes_back_without_the_agent_its_key_or_its_model(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    cli.inside(slug, f"echo '# late' >> adder.py; {COMMIT} Late").ok()
    cli.kill(slug)
    eventually(lambda: cli.slugs() == [])
    for path in (cli.home / "agents", cli.home / "bottles"):
        for file in path.iterdir():
            file.unlink()
    assert cli("pull", slug).ok().rows
    cli.key = ""
    assert cli("pull", slug).ok().rows
    cli.assert_nothing_is_left()


def test_a_repository_that_is_gone_keeps_the_work_in_the_state(bottle: tuple[Cli, str]) -> None:
    cli, slug = bottle
    cli.inside(slug, f"echo '# late' >> adder.py; {COMMIT} Late").ok()
    cli.project.rename(cli.root / "moved")
    done = cli("stop", slug, cwd=cli.root)
    assert (done.status, "Traceback" in done.talk) == (1, False), done.everything
    assert "the work was not handed over" in done.talk
    assert cli("list", cwd=cli.root).ok().out == b""
    (cli.root / "moved").rename(cli.project)
    cli("pull", slug).ok()
    assert cli.git("log", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Late\nStart"
