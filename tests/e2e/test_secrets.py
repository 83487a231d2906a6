"""Credentials and variables: where each comes from, where it gets to, and what is said where one is missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, scripted, write

pytestmark = pytest.mark.needs("envoy", "claude")

START = ("--detach", "--yes")


class Upstream(ThreadingHTTPServer):
    """A gateway of the operator's that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Remembering)
        self.seen: list[tuple[str, str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Remembering(BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append(
            (self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        )
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    do_POST = do_GET  # noqa: N815 - http.server's own name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        pass


@pytest.fixture
def gateway() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def routes(gateway: str, *more: str) -> str:
    """Routes of several hosts to one gateway; `more` are (host, extra YAML) in turn."""
    lines = ["egress:", "  routes:"]
    for host, extra in zip(more[::2], more[1::2], strict=True):
        lines += [f"  - host: {host}", f"    upstream: {gateway}", f"    {extra}"]
    return "\n".join(lines) + "\n"


def test_each_secret_reaches_the_server_it_is_for_and_nothing_else(cli: Cli, gateway: Upstream) -> None:
    cli.repository()
    file = write(cli.root / "operator" / "token", "from-a-file\n")
    program = write(cli.root / "operator" / "helper", '#!/bin/sh\necho "from-$1"\n')
    program.chmod(0o755)
    cli.manifest(
        bottle=routes(
            gateway.url,
            "env.example.org",
            'auth: {scheme: bearer, secret: "env:SERVICE_TOKEN"}',
            "file.example.org",
            f'auth: {{scheme: token, secret: "file:{file}"}}',
            "home.example.org",
            'auth: {scheme: "header:x-token", secret: "file:~/token"}',
            "command.example.org",
            f'auth: {{scheme: "header:x-token", secret: {{command: [{program}, a-command]}}}}',
            "open.example.org",
            "methods: [GET]",
        )
    )
    slug = cli.start(env={"SERVICE_TOKEN": "from-the-environment"})
    for name in ("env", "file", "home", "command", "open"):
        cli.inside(
            slug, f"curl -fsS -H 'Authorization: mine' -H 'x-token: mine' https://{name}.example.org/{name}"
        ).ok()
    got = {path: headers for _, path, headers in gateway.seen}
    assert got["/env"]["authorization"] == "Bearer from-the-environment"
    assert got["/file"]["authorization"] == "token from-a-file"
    assert got["/home"]["x-token"] == "from-a-file"
    assert got["/command"]["x-token"] == "from-a-command"
    assert not [value for value in got["/open"].values() if value.startswith(("from-", "Bearer", "token"))]
    assert (
        cli.inside(slug, "curl -sS -o /dev/null -w '%{http_code}' -X POST https://open.example.org/").text
        == "403"
    )
    values = [b"from-the-environment", b"from-a-file", b"from-a-command"]
    for path in (cli.home, cli.tmp):
        for stored in path.rglob("*"):
            assert not stored.is_file() or not [value for value in values if value in stored.read_bytes()], (
                stored
            )


MISSING = {
    "env:NO_SUCH_VARIABLE": (3, "export NO_SUCH_VARIABLE"),
    "file:/no/such/file": (1, "/no/such/file"),
    "file:EMPTY": (3, "is empty or missing"),
    "file:BINARY": (1, "it is not UTF-8 text"),
    "command:[/no/such/program]": (1, "/no/such/program"),
    "command:['false']": (1, "the command of a secret failed"),
    "command:['true']": (3, "is empty or missing"),
}


@pytest.mark.parametrize("secret", MISSING)
def test_a_secret_that_is_missing_is_an_error_before_anything_starts(
    cli: Cli, gateway: Upstream, secret: str
) -> None:
    cli.repository()
    write(cli.root / "EMPTY", " \n")
    (cli.root / "BINARY").write_bytes(b"\xff\xfe\x00")
    kind, _, rest = secret.partition(":")
    rest = str(cli.root / rest) if rest.isupper() and kind == "file" else rest
    value = f"{{command: {rest}}}" if kind == "command" else f'"{kind}:{rest}"'
    cli.manifest(bottle=routes(gateway.url, "a.example.org", f"auth: {{scheme: bearer, secret: {value}}}"))
    status, words = MISSING[secret]
    done = cli("start", cli.agent, *START)
    done.failed(status, words, "dev.md:4" if "program" not in secret else "")
    assert "certificates" not in done.talk
    assert cli.preserved() == []
    cli.assert_nothing_is_left()


def test_without_an_account_a_bottle_starts_and_says_so(cli: Cli, gateway: Upstream) -> None:
    cli.repository()
    cli.manifest(bottle=routes(gateway.url, "open.example.org", "methods: [GET]"))
    cli.more["ANTHROPIC_API_KEY"] = ""
    done = cli("start", cli.agent, *START).ok()
    assert "no Claude Code account was found on this host" in done.talk
    slug = done.text.strip()
    cli.inside(slug, "curl -fsS https://open.example.org/x").ok()
    assert [path for _, path, _ in gateway.seen] == ["/x"]


def test_without_any_route_a_bottle_starts_and_reaches_nothing(cli: Cli) -> None:
    cli.repository()
    cli.manifest()
    cli.more["ANTHROPIC_API_KEY"] = ""
    slug = cli.start()
    assert (
        cli.inside(slug, "curl -s -o /dev/null -w '%{http_connect}' https://example.org || true").text
        == "403"
    )


ACCOUNTS = {
    "ANTHROPIC_API_KEY": ("x-api-key", "{}"),
    "ANTHROPIC_AUTH_TOKEN": ("authorization", "Bearer {}"),
    "CLAUDE_CODE_OAUTH_TOKEN": ("authorization", "Bearer {}"),
    "login": ("authorization", "Bearer {}"),
}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_every_kind_of_account_is_used_as_claude_would(cli: Cli, account: str) -> None:
    cli.repository()
    secret = cli.key
    env = {account: secret}
    if account == "login":
        folder = cli.user_home / ".claude"
        write(
            folder / ".credentials.json",
            json.dumps({"claudeAiOauth": {"accessToken": secret, "refreshToken": "never"}}),
        )
        env = {}
    with scripted({"say": "Hello."}) as model:
        cli.manifest(model.url)
        done = cli(
            "run",
            cli.agent,
            "-p",
            "Hello?",
            "--yes",
            env=env,
            without=["ANTHROPIC_API_KEY"] if account != "ANTHROPIC_API_KEY" else [],
        )
    assert done.ok().text == "Hello.\n"
    header, form = ACCOUNTS[account]
    asked = [request for request in model.requests if request.path.startswith("/v1/messages")]
    assert asked
    assert {request.headers[header] for request in asked} == {form.format(secret)}
    assert secret not in done.everything


# Variables


def test_variables_of_each_kind_get_in_and_the_preflight_names_no_value(
    cli: Cli, idle: ScriptedModel
) -> None:
    cli.repository()
    odd = "a 'b' \"c\" $d `e` \\ ü\n second line"
    cli.manifest(
        idle.url, bottle='env:\n  PLAIN: "a literal"\n  COPIED: "${ON_THE_HOST}"\n  EMPTY: "${NOTHING}"\n'
    )
    done = cli("start", cli.agent, *START, env={"ON_THE_HOST": odd, "NOTHING": "", "STRAY": "stray"}).ok()
    assert "COPIED from the host: it DOES enter the bottle" in done.talk
    assert "second line" not in done.talk
    slug = done.text.strip()
    assert (
        cli.inside(slug, 'printf "%s|%s|%s|%s" "$PLAIN" "$COPIED" "${EMPTY-unset}" "${STRAY-unset}"').text
        == f"a literal|{odd}||unset"
    )
    assert not [
        path for path in cli.home.rglob("*") if path.is_file() and b"second line" in path.read_bytes()
    ]
    assert not any("second line" in line for line in cli.leftovers())


def test_a_variable_that_is_not_set_on_the_host_is_an_error(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url, bottle='env:\n  COPIED: "${NOT_SET_ANYWHERE}"\n')
    cli("start", cli.agent, *START).failed(
        3, "NOT_SET_ANYWHERE is not set on this host", "export NOT_SET_ANYWHERE"
    )
    assert cli.preserved() == []


def test_a_variable_that_has_to_be_asked_for_needs_a_terminal(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url, bottle='env:\n  ASKED: "?What is it?"\n')
    cli("start", cli.agent, *START).failed(2, "no terminal to ask 'What is it?' on")
    assert cli.preserved() == []


@pytest.mark.parametrize(
    "name", ["PATH", "HTTPS_PROXY", "https_proxy", "NODE_EXTRA_CA_CERTS", "ANTHROPIC_API_KEY", "HOME"]
)
@pytest.mark.parametrize("value", ["literal", "${ON_THE_HOST}"])
def test_a_variable_of_claude_bottles_own_cannot_be_replaced(
    cli: Cli, idle: ScriptedModel, name: str, value: str
) -> None:
    cli.repository()
    cli.manifest(idle.url, bottle=f'env:\n  {name}: "{value}"\n')
    cli("start", cli.agent, *START, env={"ON_THE_HOST": "x"}).failed(2, f"env {name} is claude-bottle's own")
    assert cli.preserved() == []


# What else an agent is given


def test_prompt_model_skills_and_identity_reach_claude(cli: Cli) -> None:
    cli.repository()
    write(
        cli.user_home / ".claude" / "skills" / "juggling" / "SKILL.md",
        "---\nname: juggling\ndescription: Juggles well\n---\nJuggle.\n",
    )
    with scripted({"system": {"contains": "You are the purple one."}, "say": "Hello."}) as model:
        cli.manifest(
            model.url,
            agent="model: claude-haiku-5-5\nskills: [juggling]\ngit: {user: {name: Purple, email: purple@example.org}}\n",
            prompt="You are the purple one.",
        )
        cli("run", cli.agent, "-p", "Hello?", "--yes").ok()
        slug = cli.start()
    assert model.failures == ()
    bodies = [request.body for request in model.requests if request.body]
    assert bodies[0]["model"] == "claude-haiku-5-5"
    assert "juggling" in json.dumps(bodies, default=dict)
    assert cli.inside(slug, "cat ~/.claude/skills/juggling/SKILL.md").ok().text.endswith("Juggle.\n")
    assert (
        cli.inside(slug, "git config user.name; git config user.email").text == "Purple\npurple@example.org\n"
    )


def test_a_skill_that_is_not_there_is_an_error_with_the_nearest(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    write(cli.user_home / ".claude" / "skills" / "juggling" / "SKILL.md", "")
    cli.manifest(idle.url, agent="skills: [jugling]\n")
    cli("start", cli.agent, *START).failed(3, "there is no skill 'jugling'", "did you mean juggling?")
    assert cli.preserved() == []
    cli.assert_nothing_is_left()
