"""How Claude Code is made at home in a bottle: its hosts, environment, files and command line. Pure.

Invariant: what is written here holds a placeholder where a credential would stand; the real one is added by
the egress stage, on the paths that need it and on no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from claude_bottle.backend.base import AUTHORITIES, GATE_PORT, NODE_HOME, SUPERVISE_PORT, WORKSPACE
from claude_bottle.policy.model import Auth, Route, SecretRef

API_HOST = "api.anthropic.com"
PLACEHOLDER = "placeholder"
CONFIG = f"{NODE_HOME}/.claude"
PROMPT_FILE = f"{CONFIG}/claude-bottle-prompt.md"
OWN = "claude-bottle"  # the origin of rules that no manifest wrote
_INFERENCE = ("/v1/messages",)
_MANAGED = ("/api/claude_code/settings", "/api/claude_code/policy_limits")
_CALL_MS = 60 * 60 * 1000
_PROXY = f"http://127.0.0.1:{GATE_PORT}"
_PATH = (
    "/opt/claude-bottle/bin",
    f"{NODE_HOME}/.local/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)


class Credential(NamedTuple):
    """The operator's way to the API: where the secret is, how it is sent, what stands for it inside."""

    secret: SecretRef
    scheme: str
    variable: str


API_KEY = Credential(SecretRef("env", ("ANTHROPIC_API_KEY",)), "header:x-api-key", "ANTHROPIC_API_KEY")
AUTH_TOKEN = Credential(SecretRef("env", ("ANTHROPIC_AUTH_TOKEN",)), "bearer", "ANTHROPIC_AUTH_TOKEN")
OAUTH_TOKEN = Credential(SecretRef("env", ("CLAUDE_CODE_OAUTH_TOKEN",)), "bearer", "CLAUDE_CODE_OAUTH_TOKEN")
KNOWN = (API_KEY, OAUTH_TOKEN, AUTH_TOKEN)


def routes(credential: Credential | None, configured: Iterable[Route]) -> tuple[Route, ...]:
    """The manifest's routes with Claude's own added where it does not name the API's host.

    A route of the manifest that names this host but no auth, methods or paths (an `upstream`, say) says
    only where the API is: it gets Claude's own rules.
    """
    found = tuple(configured)
    own = _own_routes(Auth(credential.scheme, credential.secret) if credential is not None else None)
    if not any(route.host == API_HOST for route in found):
        return (*own, *found)
    completed: list[Route] = []
    for route in found:
        bare = route.inspect and not (route.auth or route.methods or route.paths)
        if route.host == API_HOST and bare:
            completed += [route._replace(methods=it.methods, paths=it.paths, auth=it.auth) for it in own]
        else:
            completed.append(route)
    return tuple(completed)


def _own_routes(auth: Auth | None) -> tuple[Route, ...]:
    """Inference, and the settings that the operator's organisation imposes on every Claude Code."""
    return (
        Route(API_HOST, methods=("POST",), paths=_INFERENCE, auth=auth, origin=OWN),
        Route(API_HOST, methods=("GET",), paths=_MANAGED, auth=auth, origin=OWN),
    )


def environment(credential: Credential | None) -> tuple[tuple[str, str], ...]:
    """Everything that a program in the bottle sees, besides the manifest's own variables."""
    authorities = (
        *("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("PIP_CERT", "GIT_SSL_CAINFO", "CARGO_HTTP_CAINFO"),
    )
    proxies = ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
    found = {
        "HOME": NODE_HOME,
        "USER": "node",
        "LOGNAME": "node",
        "SHELL": "/bin/bash",
        "PATH": ":".join(_PATH),
        "LANG": "C.UTF-8",
        "CLAUDE_CONFIG_DIR": CONFIG,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
        "CLAUDE_CODE_PROXY_RESOLVES_HOSTS": "1",
        "DISABLE_AUTOUPDATER": "1",
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "no_proxy": "localhost,127.0.0.1,::1",
        **dict.fromkeys(proxies, _PROXY),
        **dict.fromkeys(authorities, AUTHORITIES),
    }
    if credential is not None:
        found[credential.variable] = PLACEHOLDER
    return tuple(found.items())


def files(prompt: str, git_user: tuple[str, str]) -> dict[str, str]:
    """Path below the home -> content. Answers what Claude Code would ask at its first start."""
    name, email = git_user
    state = {
        "hasCompletedOnboarding": True,
        "projects": {WORKSPACE: {"hasTrustDialogAccepted": True}},
        "customApiKeyResponses": {"approved": [PLACEHOLDER], "rejected": []},
    }
    found = {
        ".claude/.claude.json": json.dumps(state),
        ".claude/settings.json": json.dumps({"skipDangerousModePermissionPrompt": True}),
        ".gitconfig": f"[user]\n\tname = {_quoted(name)}\n\temail = {_quoted(email)}\n"
        "[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n",
    }
    if prompt:
        found[".claude/claude-bottle-prompt.md"] = prompt
    return found


# Inside: is there a conversation that `--continue` would find? It ends with an error where there is none.
HAS_CONVERSATION = (
    *("grep", "-rqs", "--include=*.jsonl", '"type":"user"'),
    f"{CONFIG}/projects/{WORKSPACE.replace('/', '-')}",
)


def _quoted(value: str) -> str:
    """git-config(1): a value in double quotes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def mcp_servers() -> str:
    """What Claude Code is told of the supervise sidecar, beside whatever else it is configured with.

    Its tools are there from the start, as one that has to be searched for is not found at a denial. A call
    may last longer than the sidecar lets one wait.
    """
    server = {
        "type": "http",
        "url": f"http://127.0.0.1:{SUPERVISE_PORT}/mcp",
        "alwaysLoad": True,
        "timeout": _CALL_MS,
    }
    return json.dumps({"mcpServers": {"claude-bottle": server}})


def arguments(
    prompt: str, model: str | None, extra: Iterable[str] = (), *, supervised: bool = False
) -> list[str]:
    """The servers stand in the arguments and in no file, which the agent could break for the next start."""
    found = ["--mcp-config", mcp_servers()] if supervised else []  # takes all words up to the next option
    found.append("--dangerously-skip-permissions")
    if prompt:
        found += ["--append-system-prompt-file", PROMPT_FILE]
    if model:
        found += ["--model", model]
    return [*found, *extra]
