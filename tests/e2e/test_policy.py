"""A running bottle's policy, seen and changed by its operator, and denials that say what to ask for."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, eventually, write
from tests.support.terminals import terminal

pytestmark = pytest.mark.needs("envoy", "claude")

CODE = "curl -s -o /dev/null -w '%{http_connect} %{http_code}' --max-time 20"


class Server(NamedTuple):
    """Something to reach: it answers everything, but what is below /slow never to the end."""

    url: str
    release: threading.Event


@pytest.fixture
def server() -> Iterator[Server]:
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if self.path.startswith("/slow"):
                self.end_headers()
                self.wfile.write(b"begun\n")
                self.wfile.flush()
                release.wait(120)
                return
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"ok\n")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            return

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{httpd.server_port}", release)
    finally:
        release.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class Bottle:
    """One that runs, and whose manifest allows a part of docs.example.org."""

    def __init__(self, cli: Cli, model: str, server: Server, more: str = "") -> None:
        self.cli = cli
        self.server = server
        rule = (
            f"  - host: docs.example.org\n    upstream: {server.url}\n    methods: [GET]\n    paths: [/v1]\n"
        )
        cli.repository()
        cli.manifest(model, bottle=rule + more)
        self.slug = cli.start()

    def code(self, url: str, *options: str) -> str:
        """The statuses of CONNECT and of the request itself."""
        return self.cli.inside(self.slug, f"{CODE} {shlex.join(options)} {shlex.quote(url)}").text

    def said(self, url: str, *options: str) -> dict[str, Any]:
        """What a denied request is told."""
        done = self.cli.inside(self.slug, f"curl -s --max-time 20 {shlex.join(options)} {shlex.quote(url)}")
        error = json.loads(done.text)["error"]
        assert isinstance(error, dict)
        return error

    def refused(self, host: str) -> dict[str, Any]:
        """What a denied CONNECT is told."""
        ask = rf"exec 3<>/dev/tcp/127.0.0.1/9099; printf 'CONNECT {host}:443 HTTP/1.1\r\n\r\n' >&3; cat <&3"
        done = self.cli.inside(self.slug, f"bash -c {shlex.quote(ask)}")
        error = json.loads(done.text.partition("\r\n\r\n")[2])["error"]
        assert isinstance(error, dict)
        return error

    def shown(self, key: str = "routes") -> dict[str, Any]:
        return self.cli(key, "show", self.slug, "--json").ok().json

    def hosts(self) -> list[str]:
        return [route["host"] for route in self.shown()["routes"]]

    def audited(self) -> list[dict[str, Any]]:
        lines = [
            json.loads(line)
            for path in sorted((self.cli.home / "audit").glob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return [line for line in lines if line["slug"] == self.slug and line["kind"] in ("edit", "outcome")]

    def editor(self, name: str, script: str) -> dict[str, str]:
        """The environment of an operator whose editor does this to "$1"."""
        path = write(self.cli.root / f"{name}.sh", f"set -e\n{script}\n")
        return {"EDITOR": f"sh {shlex.quote(str(path))}"}


@pytest.fixture
def bottle(cli: Cli, idle: ScriptedModel, server: Server) -> Bottle:
    return Bottle(cli, idle.url, server)


def test_a_denial_says_what_to_ask_for_and_the_operator_is_told_the_same(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    url = "https://docs.example.org/v2/x"
    said = bottle.said(f"{url}?token=1", "-X", "POST")
    assert said["reason"] == "method-not-allowed"
    assert said["nearest"]["paths"] == ["/v1"]
    asked = {"host": "docs.example.org", "ports": [443], "methods": ["POST"], "paths": ["/v2/x"]}
    assert said["proposal"] == asked
    assert "egress-block" in said["next"]
    assert cli.key not in json.dumps(said)
    said = bottle.refused("new.example.test")
    assert (said["reason"], said["nearest"]) == ("host-not-allowed", None)
    assert said["proposal"] == {"host": "new.example.test", "ports": [443]}
    head = cli.inside(slug, f"curl -sI --max-time 20 {url}").text
    assert head.startswith("HTTP/1.1 200")  # of the tunnel
    assert "403" in head
    assert "claude-bottle-denied" not in head

    done = cli("why", slug, url, "-X", "POST", "--json")
    assert done.status == 4, done.everything
    told = done.json
    assert (told["schema"], told["reason"], told["allowed"]) == (1, "method-not-allowed", False)
    assert told["nearest"]["origin"] == f"{cli.home}/bottles/dev.md:6"
    assert (told["tried"]["method"], told["tried"]["verdict"]) == ("POST", "deny")
    assert told["tried"]["at"].startswith("2")
    plain = cli("why", slug, url, "-X", "POST")
    assert plain.status == 4
    assert plain.text.startswith(f"denied      POST {url}\n")
    assert f"allow it    {shlex.join(told['command'])}\n" in plain.text

    cli(*told["command"][1:]).ok()
    assert bottle.code(url, "-X", "POST") == "200 200"
    allowed = cli("why", slug, url, "-X", "POST", "--json").ok().json
    (edit, outcome) = bottle.audited()
    assert allowed["rule"]["decision"] == edit["decision"] == outcome["decision"]
    assert (edit["what"], outcome["state"]) == ("routes add", "applied")
    assert allowed["tried"]["verdict"] == "allow"
    assert bottle.code(f"{url[:-1]}y", "-X", "POST") == "200 403"


def test_where_nobody_is_asked_nothing_is_offered(cli: Cli, idle: ScriptedModel, server: Server) -> None:
    bottle = Bottle(cli, idle.url, server, "supervise: false\n")
    for said in (bottle.said("https://docs.example.org/v2"), bottle.refused("new.example.test")):
        assert said["proposal"] is None
        assert "egress-block" not in json.dumps(said)


def test_what_is_in_force_is_shown_with_where_it_comes_from(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    rows = cli("routes", "show", slug).ok().rows
    (docs,) = [row for row in rows if row[0].startswith("docs.example.org")]
    assert docs[1:] == ["no bound", f"{cli.home}/bottles/dev.md:6"]
    assert cli("allowlist", "show", slug).ok().text == ""
    done = cli("allowlist", "add", slug, "a.example.test", "*.b.example.test", "--for", "30m", "--json").ok()
    assert len(done.json["new"]) == 2
    shown = bottle.shown("allowlist")
    assert [item["host"] for item in shown["allowlist"]] == ["a.example.test", "*.b.example.test"]
    for item in shown["allowlist"]:
        assert 0 < item["until"] - shown["now"] <= 1800
        assert item["decision"] == done.json["decision"]
    assert "decision " + done.json["decision"] in cli("allowlist", "show", slug).ok().text
    again = cli("allowlist", "add", slug, "docs.example.org")
    again.failed(2, "docs.example.org has a rule already")
    cli("allowlist", "remove", slug, "a.example.test").ok()
    assert [item["host"] for item in bottle.shown("allowlist")["allowlist"]] == ["*.b.example.test"]
    cli("routes", "show", "nobody-00000").failed(3, "there is no bottle")
    cli("stop", slug).ok()
    for words in (("routes", "show"), ("routes", "remove"), ("why",)):
        cli(*words, slug, "docs.example.org").failed(2)
    cli("why", slug, "docs.example.org").failed(2, f"{slug} is not running")


def test_a_rule_with_a_number_of_uses_runs_out(bottle: Bottle) -> None:
    cli, slug, led = bottle.cli, bottle.slug, ("--upstream", bottle.server.url)
    cli("routes", "add", slug, "few.example.test", "--uses", "2", *led).ok()
    assert cli("why", slug, "few.example.test").ok().text.count("2 uses left") == 1
    codes = [bottle.code("https://few.example.test/") for _ in range(2)]
    assert codes == ["200 200", "200 200"]
    assert "200" not in bottle.code("https://few.example.test/")
    assert "few.example.test" not in bottle.hosts()
    done = cli("why", slug, "few.example.test")
    assert done.status == 4
    assert "\nran out     decision d-" in done.text


def test_what_is_removed_ends_at_once_with_its_open_tunnels(bottle: Bottle) -> None:
    cli, slug, led = bottle.cli, bottle.slug, ("--upstream", bottle.server.url)
    for host in ("slow.example.test", "other.example.test"):
        cli("routes", "add", slug, host, *led).ok()
    for host in ("slow", "other"):
        ask = f"curl -sN https://{host}.example.test/slow >/tmp/{host} 2>&1; echo ended >>/tmp/{host}"
        cli.inside(slug, f"({ask}) >/dev/null 2>&1 </dev/null &").ok()

    def said(host: str) -> str:
        return cli.inside(slug, f"cat /tmp/{host}").text

    eventually(lambda: said("slow") == "begun\n" and said("other") == "begun\n", lambda: said("slow"))
    done = cli("routes", "remove", slug, "slow.example.test").ok()
    assert "- slow.example.test" in done.talk
    assert "1 connection closed" in done.talk
    eventually(lambda: said("slow") == "begun\nended\n", lambda: said("slow"))
    assert said("other") == "begun\n"
    assert "200" not in bottle.code("https://slow.example.test/")
    assert cli("why", slug, "slow.example.test").status == 4
    cli("routes", "remove", slug, "slow.example.test").failed(3, "has no such rule")
    cli("routes", "add", slug, "docs.example.org", "--method", "DELETE", *led).ok()
    cli("routes", "remove", slug, "docs.example.org").failed(2, "has 2 rules", "dev.md:6", "--method")
    cli("routes", "remove", slug, "docs.example.org", "--method", "DELETE").ok()
    assert bottle.code("https://docs.example.org/v1") == "200 200"


def test_an_edit_takes_the_place_of_what_was_there(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    before = bottle.shown()["version"]
    narrow = bottle.editor("narrow", "sed -i 's|paths: .*|paths: [/v3]|' \"$1\"")
    done = cli("routes", "edit", slug, "--yes", env=narrow).ok()
    assert "- docs.example.org  GET  /v1" in done.talk
    assert "+ docs.example.org  GET  /v3" in done.talk
    assert bottle.shown()["version"] == before + 1
    assert bottle.code("https://docs.example.org/v1") == "200 403"
    assert bottle.code("https://docs.example.org/v3") == "200 200"
    assert "api.anthropic.com" in bottle.hosts()
    assert list(cli.tmp.glob("claude-bottle-*")) == []


@pytest.mark.parametrize(
    ("script", "status", "words", "kept"),
    [
        ("printf 'routes:\\n- host: a b\\n' > \"$1\"", 2, (":2:3: routes[0].host: a host name",), True),
        ("printf 'routes:\\n- host: g\\xd1\\x96.example\\xe2\\x80\\xae\\n' > \"$1\"", 2, (":2:3:",), True),
        (': > "$1"', 2, ('the key "routes" is missing',), True),
        ("echo '- x: 1' >> \"$1\"; exit 3", 1, ("ended with status 3", "nothing was changed"), True),
        ("exit 1", 1, ("ended with status 1",), False),
    ],
)
def test_a_bad_edit_changes_nothing(
    bottle: Bottle, script: str, status: int, words: tuple[str, ...], kept: bool
) -> None:
    cli, before = bottle.cli, bottle.shown()
    done = cli("routes", "edit", bottle.slug, "--yes", env=bottle.editor("bad", script))
    done.failed(status, *words)
    assert b"\x1b" not in done.err
    assert "\u202e" not in done.talk
    after = bottle.shown()
    assert (after["routes"], after["version"]) == (before["routes"], before["version"])
    assert bottle.audited() == []
    left = list(cli.tmp.glob("claude-bottle-routes-*"))
    assert len(left) == kept
    assert all(str(path) in done.talk for path in left)


def test_nobody_is_asked_without_a_terminal(bottle: Bottle) -> None:
    mark = bottle.cli.root / "opened"
    never = bottle.editor("never", f"touch {mark}")
    bottle.cli("routes", "edit", bottle.slug, env=never).failed(2, "no terminal", "--yes")
    assert not mark.exists()
    assert "nothing was changed" in bottle.cli("routes", "edit", bottle.slug, "--yes", env=never).ok().talk
    assert mark.exists()


def test_the_second_of_two_editors_is_told_and_loses_nothing(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    ready, go = cli.root / "ready", cli.root / "go"
    wait = (
        f"echo '- host: second.example.test' >> \"$1\"; touch {ready}; until [ -e {go} ]; do sleep 0.05; done"
    )
    with cli.begun("routes", "edit", slug, "--yes", env=bottle.editor("second", wait)) as second:
        eventually(ready.exists)
        first = bottle.editor("first", "echo '- host: first.example.test' >> \"$1\"")
        cli("routes", "edit", slug, "--yes", env=first).ok()
        go.touch()
        out, err = second.communicate()
        assert second.returncode == 1, err.decode()
    assert out == b""
    assert b"was changed by somebody else meanwhile" in err
    (kept,) = cli.tmp.glob("claude-bottle-routes-*")
    assert str(kept) in err.decode()
    assert "second.example.test" in kept.read_text()
    hosts = bottle.hosts()
    assert "first.example.test" in hosts
    assert "second.example.test" not in hosts


def test_of_several_at_once_none_is_lost(bottle: Bottle) -> None:
    names = [f"host-{number}.example.test" for number in range(4)]
    with ExitStack() as begun:
        adding = [begun.enter_context(bottle.cli.begun("routes", "add", bottle.slug, name)) for name in names]
        for process in adding:
            _, err = process.communicate()
            assert process.returncode == 0, err.decode()
    assert set(names) <= set(bottle.hosts())
    assert bottle.shown()["version"] == 5
    assert len(bottle.audited()) == 8


def test_at_a_terminal_the_difference_is_shown_before_the_question(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    good = "printf 'routes:\\n- host: good.example.test\\n' > \"$1\""
    bad = "printf 'routes:\\n- hots: bad\\n' > \"$1\""
    mark = cli.root / "again"
    script = f"if [ -e {mark} ]; then {good}; else touch {mark}; {bad}; fi"

    argv = [*cli.command, "routes", "edit", slug]
    with terminal(argv, {**cli.env, **bottle.editor("twice", script), "TERM": "dumb"}) as shown:
        for question, answer in (
            (b"edit it again? [y/N] ", b"y\n"),
            (f"change {slug}? [y/N] ".encode(), b"n\n"),
        ):
            shown.wait_for(question)
            shown.type(answer)
        status, screen = shown.finish(), bytes(shown.screen)
    assert status == 1, screen
    assert b'unknown key; did you mean "host"?' in screen
    assert b"- docs.example.org" in screen
    assert b"+ good.example.test" in screen
    assert b"what you wrote is kept in" in screen
    assert "docs.example.org" in bottle.hosts()


def test_a_look_alike_is_shown_as_what_it_is(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    done = cli("why", slug, "https://d\u043ecs.example.org/v1")
    assert done.status == 4
    assert done.out.isascii()
    assert "xn--dcs-" in done.text
    cli("routes", "add", slug, "d\u043ecs.example.org").ok()
    (found,) = [host for host in bottle.hosts() if host.startswith("xn--")]
    assert cli("routes", "show", slug).ok().out.isascii()
    assert found in cli("routes", "show", slug).ok().text
    for words in (("why", slug, "https://a\u202eb/"), ("routes", "add", slug, "a\x1b]2;x\x07b")):
        done = cli(*words)
        done.failed(2)
        assert b"\x1b" not in done.err
        assert "\u202e" not in done.talk


def test_a_bad_rule_is_refused_before_anything_is_asked(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    for words, why in (
        (("a.example", "--path", "x"), "paths[0]: the path does not begin"),
        (("a.example", "--method", "get"), "methods[0]: methods are written in capitals: GET"),
        (("a.example", "--no-inspect", "--path", "/"), "cannot be enforced on an opaque tunnel"),
        (("10.0.0.1", "--no-inspect"), "is not a public address"),
        (("a.example", "--auth", "bearer"), "--auth and --secret belong together"),
        (("a.example", "--for", "soon"), "--for: a duration is"),
        (("a.example", "--uses", "0"), "--uses: a whole number"),
        (("a.example", "--port", "x"), "--port: a port is"),
        (("docs.example.org", "--no-inspect"), "another route of this host and port"),
        (("a.example", "--all"), "add takes no --all"),
    ):
        cli("routes", "add", slug, *words).failed(2, why)
    missing = cli("routes", "add", slug, "a.example", "--auth", "bearer", "--secret", "env:NOT_THERE")
    missing.failed(3, "env:NOT_THERE is empty or missing")
    assert bottle.audited() == []
    assert bottle.shown()["version"] == 1


def test_a_credential_is_added_outside_and_never_shown(bottle: Bottle) -> None:
    cli, slug = bottle.cli, bottle.slug
    secret = write(Path(cli.root) / "a-secret", "hunter2-hunter2\n")
    rule = ("key.example.test", "--auth", "header:X-Key", "--secret", f"file:{secret}")
    done = cli("routes", "add", slug, *rule, "--upstream", bottle.server.url, "--json").ok()
    assert done.json["new"][0]["auth"] == {"scheme": "header:X-Key", "secret": f"file:{secret}"}
    assert bottle.code("https://key.example.test/") == "200 200"
    shown = cli("routes", "show", slug).ok().everything + cli("why", slug, "key.example.test").ok().everything
    logs = "".join(path.read_text() for path in cli.home.rglob("*.jsonl"))
    assert "hunter2" not in done.everything + shown + logs
