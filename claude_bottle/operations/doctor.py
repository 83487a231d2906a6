"""What this host can do: each part is looked for where a launch would, and tried where that is harmless."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from claude_bottle.backend import known_backend_names, load_backend
from claude_bottle.backend.base import Readiness
from claude_bottle.errors import BottleError, NotFoundError, UsageError
from claude_bottle.operations.choices import find_authorities
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import claude_credential, find_claude
from claude_bottle.operations.prepare import CHECKOUT
from claude_bottle.proc import Command, checked, find_program
from claude_bottle.sidecars.egress.envoy import find_envoy


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of the host. `needed` parts must be ok for a bottle to start."""

    name: str
    ok: bool
    text: str
    hint: str | None = None
    needed: bool = True

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def examine(context: Context, backend: str | None) -> list[Finding]:
    """Never raises for what is missing; raises UsageError for a backend that does not exist."""
    if backend is not None and backend not in known_backend_names():
        raise UsageError(f"there is no backend {backend!r}", f"known: {', '.join(known_backend_names())}")
    names = (backend,) if backend else known_backend_names()
    found = {name: load_backend(name).examine() for name in names}
    none_works = not any(readiness.ok for readiness in found.values())
    findings = [item for name in names for item in _backend(name, found[name], needed=none_works)]
    findings += [
        _try("claude", lambda: _claude(context)),
        _try("envoy", lambda: _envoy(context)),
        _try("git", lambda: checked(context.runner, Command(("git", "--version")), "git").text.strip()),
        _try("authorities", lambda: str(find_authorities(context))),
        _account(context),
        _optional("tmux", "the dashboard needs it"),
    ]
    return findings


def _backend(name: str, readiness: Readiness, *, needed: bool) -> list[Finding]:
    if not readiness.ok:
        return [Finding(name, False, readiness.reason, readiness.hint, needed)]
    return [Finding(key, True, value, None, needed) for key, value in readiness.facts]


def _try(name: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, find())
    except BottleError as error:
        return Finding(name, False, error.message, error.hint)


def _claude(context: Context) -> str:
    path = find_claude(context.environment, CHECKOUT)
    version = checked(context.runner, Command((str(path), "--version"), timeout=30), "claude does not run")
    return f"{version.text.strip()} ({path})"


def _envoy(context: Context) -> str:
    path = find_envoy(context.environment)
    if path is None:
        raise NotFoundError("there is no Envoy", "run script/bootstrap, or set CLAUDE_BOTTLE_ENVOY")
    version = checked(context.runner, Command((str(path), "--version"), timeout=30), "Envoy does not run")
    return f"{version.text.strip().rpartition('version: ')[2][:40]} ({path})"


def _account(context: Context) -> Finding:
    credential = claude_credential(context.environment)
    if credential is None:
        return Finding(
            "account",
            False,
            "no Claude Code account on this host",
            "log in with claude, or export ANTHROPIC_API_KEY",
            False,
        )
    return Finding("account", True, f"{credential.secret.kind}:{credential.secret.argument[0]}", None, False)


def _optional(name: str, why: str) -> Finding:
    path = find_program(name)
    return Finding(name, path is not None, path or "not installed", why, False)
