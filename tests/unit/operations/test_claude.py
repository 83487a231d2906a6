"""Claude Code's hosts, environment and files: a placeholder inside, the credential on its own paths and no others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from claude_bottle.backend.base import AUTHORITIES, WORKSPACE
from claude_bottle.operations.claude import (
    API_HOST,
    API_KEY,
    AUTH_TOKEN,
    KNOWN,
    OAUTH_TOKEN,
    OWN,
    PLACEHOLDER,
    PROMPT_FILE,
    Credential,
    arguments,
    environment,
    files,
    routes,
)
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.policy.routes import decide_request
from claude_bottle.sidecars.supervise.connection import LIMITS
from tests.support.repositories import ENVIRONMENT

GATEWAY = Upstream("http", "127.0.0.1", 8080)
OTHER = Auth("bearer", SecretRef("env", ("GATEWAY_TOKEN",)))
MANAGED = "/api/claude_code/settings"

# Routes


def sent(found: tuple[Route, ...], method: str, path: str, host: str = API_HOST) -> str:
    """What goes with a request: the secret's name, "nothing", or "refused" where it does not get out."""
    decision = decide_request(Policy(found), host, 443, method, path)
    if decision.route is None:
        return "refused"
    return str(decision.route.auth.secret) if decision.route.auth is not None else "nothing"


@pytest.mark.parametrize("credential", KNOWN)
def test_the_credential_goes_with_inference_and_managed_settings_only(credential: Credential) -> None:
    found = routes(credential, [Route("example.org")])
    name = str(credential.secret)
    assert sent(found, "POST", "/v1/messages") == name
    assert sent(found, "POST", "/v1/messages/count_tokens") == name
    assert sent(found, "GET", MANAGED) == name
    assert sent(found, "GET", "/api/claude_code/policy_limits") == name
    for method, path in (
        ("GET", "/v1/messages"),
        ("POST", "/v1/messages-of-another-kind"),
        ("POST", MANAGED),
        ("POST", "/v1/files"),
        ("GET", "/v1/organizations/keys"),
        ("DELETE", "/v1/messages"),
        ("GET", "/"),
    ):
        assert sent(found, method, path) == "refused", (method, path)
    assert sent(found, "GET", "/v1/messages", "example.org") == "nothing"
    assert sent(found, "POST", "/v1/messages", "example.org") == "nothing"


def test_it_is_sent_in_the_way_of_its_kind() -> None:
    schemes = {
        credential.variable: {route.auth.scheme for route in routes(credential, []) if route.auth is not None}
        for credential in KNOWN
    }
    assert schemes == {
        "ANTHROPIC_API_KEY": {"header:x-api-key"},
        "ANTHROPIC_AUTH_TOKEN": {"bearer"},
        "CLAUDE_CODE_OAUTH_TOKEN": {"bearer"},
    }


def test_without_an_account_the_same_rules_hold_and_nothing_is_sent() -> None:
    found = routes(None, [])
    assert sent(found, "POST", "/v1/messages") == "nothing"
    assert sent(found, "POST", "/v1/files") == "refused"
    assert {route.origin for route in found} == {OWN}


def test_a_route_that_only_says_where_the_api_is_gets_its_rules() -> None:
    bare = Route(API_HOST, ports=(8443,), upstream=GATEWAY, detectors=("secrets",), origin="dev.md:4")
    found = routes(API_KEY, [Route("before.example.org"), bare, Route("after.example.org")])
    assert [route.host for route in found] == ["before.example.org", API_HOST, API_HOST, "after.example.org"]
    own = routes(API_KEY, [])
    assert found[1:3] == tuple(bare._replace(methods=r.methods, paths=r.paths, auth=r.auth) for r in own)


@pytest.mark.parametrize(
    "told",
    [
        Route(API_HOST, auth=OTHER),
        Route(API_HOST, methods=("GET",)),
        Route(API_HOST, paths=("/v1",)),
        Route(API_HOST, inspect=False),
        Route(API_HOST, methods=("GET",), upstream=GATEWAY),
    ],
)
def test_a_route_that_says_more_is_taken_at_its_word(told: Route) -> None:
    found = (Route("example.org"), told)
    assert routes(API_KEY, found) == found
    assert routes(None, found) == found


def test_a_rule_beside_a_bare_one_keeps_its_own_auth() -> None:
    told = Route(API_HOST, methods=("GET",), paths=("/v1/models",), auth=OTHER)
    found = routes(API_KEY, [told, Route(API_HOST, upstream=GATEWAY)])
    assert sent(found, "GET", "/v1/models") == str(OTHER.secret)
    assert sent(found, "POST", "/v1/messages") == str(API_KEY.secret)
    assert sent(found, "POST", "/v1/models") == "refused"


@pytest.mark.parametrize("host", ["*.anthropic.com", "claude.anthropic.com", "anthropic.com"])
def test_a_similar_host_is_not_the_api_and_gets_no_credential(host: str) -> None:
    near = Route(host, upstream=GATEWAY)
    assert routes(API_KEY, [near]) == (*routes(API_KEY, []), near)


# What is seen inside


@pytest.mark.parametrize("credential", [*KNOWN, None])
def test_only_the_credentials_own_variable_is_there_and_holds_a_placeholder(
    credential: Credential | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in KNOWN:
        monkeypatch.setenv(known.variable, "the-operators-own")
    found = dict(environment(credential))
    assert "the-operators-own" not in found.values()
    there = {known.variable: found[known.variable] for known in KNOWN if known.variable in found}
    assert there == ({credential.variable: PLACEHOLDER} if credential is not None else {})


def test_every_client_is_sent_to_the_gate_and_trusts_the_bottles_authority() -> None:
    found = dict(environment(API_KEY))
    assert len(found) == len(environment(API_KEY))
    assert {found[name] for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")} == {
        "http://127.0.0.1:9099"
    }
    assert found["NO_PROXY"] == found["no_proxy"] == "localhost,127.0.0.1,::1"
    trust = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
    assert {found[name] for name in trust} == {AUTHORITIES}
    assert "ALL_PROXY" not in found
    assert not any(name.startswith("NODE_TLS") or name == "GIT_SSL_NO_VERIFY" for name in found)


def test_no_folder_that_the_agent_writes_comes_before_claude_on_the_path() -> None:
    assert dict(environment(None))["PATH"].startswith("/opt/claude-bottle/bin:")


# Files


def test_claude_code_asks_nothing_at_its_first_start() -> None:
    found = files("", ("Ann", "ann@example.org"))
    state = json.loads(found[".claude/.claude.json"])
    assert state["hasCompletedOnboarding"] is True
    assert state["projects"] == {WORKSPACE: {"hasTrustDialogAccepted": True}}
    assert state["customApiKeyResponses"] == {"approved": [PLACEHOLDER], "rejected": []}
    assert json.loads(found[".claude/settings.json"]) == {"skipDangerousModePermissionPrompt": True}


def test_the_prompt_is_a_file_and_never_an_argument() -> None:
    prompt = "You are --the\npurple one."
    assert f"/home/node/{next(name for name, text in files(prompt, ('', '')).items() if text == prompt)}" == (
        PROMPT_FILE
    )
    assert prompt not in " ".join(arguments(prompt, None))
    assert arguments(prompt, "opus", ["-c"]) == [
        "--dangerously-skip-permissions",
        "--append-system-prompt-file",
        PROMPT_FILE,
        "--model",
        "opus",
        "-c",
    ]


def test_an_agent_that_may_propose_is_told_of_the_sidecar_and_its_prompt_stays_a_prompt() -> None:
    option, servers, *rest = arguments("Be brief.", None, ["-c"], supervised=True)
    assert option == "--mcp-config"
    assert rest[0].startswith("--"), "it takes every word up to the next option"
    assert rest == arguments("Be brief.", None, ["-c"])
    (server,) = json.loads(servers)["mcpServers"].values()
    assert server["url"] == "http://127.0.0.1:9100/mcp"
    assert (server["type"], server["alwaysLoad"]) == ("http", True)
    assert server["timeout"] > LIMITS.call_seconds * 1000, (
        "the sidecar's answer comes before the client gives up"
    )


def test_without_a_prompt_there_is_no_file_to_look_for() -> None:
    assert arguments("", None) == ["--dangerously-skip-permissions"]
    assert not [name for name in files("", ("", "")) if name.endswith("prompt.md")]


@pytest.mark.parametrize(
    "name",
    [
        "Ann",
        "",
        'Ann "the \\ pen" O\'Hara',
        "Ann # not a comment ; neither",
        "  spaces  ",
        "Änn \u4e2d",
        "end \\",
    ],
)
def test_git_reads_the_identity_as_it_was_meant(name: str, tmp_path: Path) -> None:
    assert read_by_git(tmp_path, files("", (name, "a@example.org")))["user.name"] == name


@pytest.mark.parametrize(
    "hostile", ['x"\n[core]\n\tsshCommand = evil', "x\n[alias]\n\tst = !evil", 'x\\"\n[core]\n\tpager = evil']
)
def test_no_identity_becomes_a_setting_of_git(hostile: str, tmp_path: Path) -> None:
    for identity in ((hostile, "a@example.org"), ("Ann", hostile)):
        found = read_by_git(tmp_path, files("", identity))
        assert set(found) == {"user.name", "user.email", "safe.directory", "advice.detachedhead"}
        assert hostile.replace("\n", " ") in found.values()


def read_by_git(folder: Path, written: dict[str, str]) -> dict[str, str]:
    config = folder / "gitconfig"
    config.write_text(written[".gitconfig"])
    argv = ["git", "config", "--file", str(config), "--list", "-z"]
    listed = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout
    pairs = (item.split("\n", 1) for item in listed.split("\0") if item)
    return dict(pairs)


def test_the_three_accounts_are_asked_for_in_claude_codes_own_order() -> None:
    assert KNOWN == (API_KEY, OAUTH_TOKEN, AUTH_TOKEN)
