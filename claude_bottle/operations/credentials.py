"""The operator's secrets: found, named, and read only when a launch needs them.

Invariant: a value read here goes to the bundle (credentials) or into the bottle's environment (what the
manifest says), through pipes, and to nothing else. No error names a value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.manifest.model import EnvValue
from claude_bottle.operations.claude import KNOWN, OAUTH_TOKEN, Credential
from claude_bottle.policy.model import Route, SecretRef
from claude_bottle.proc import Command, Runner, checked

_MAX_BYTES = 1 << 20


def claude_credential(environment: Mapping[str, str]) -> Credential | None:
    """What Claude Code itself would use here, by name; None where the operator has no account."""
    for credential in KNOWN:
        if environment.get(credential.variable):
            return credential
    login = Path(environment.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / ".credentials.json"
    if login.is_file():
        return Credential(SecretRef("login", (str(login),)), OAUTH_TOKEN.scheme, OAUTH_TOKEN.variable)
    return None


def read_credentials(
    runner: Runner, environment: Mapping[str, str], routes: Iterable[Route]
) -> dict[str, str]:
    """By `str(SecretRef)`, for every route with auth. Raises BottleError, which names no value."""
    wanted = {route.auth.secret: route.origin for route in routes if route.auth is not None}
    return {str(secret): _read(runner, environment, secret, origin) for secret, origin in wanted.items()}


def _read(runner: Runner, environment: Mapping[str, str], secret: SecretRef, origin: str) -> str:
    where = f"{origin}: " if origin else ""
    if secret.kind == "env":
        value = environment.get(secret.argument[0], "")
        hint = f"export {secret.argument[0]}, or change the route's auth"
    elif secret.kind == "file":
        value = _file(Path(secret.argument[0]).expanduser(), where).strip()
        hint = f"write the secret into {secret.argument[0]}"
    elif secret.kind == "login":
        value = _login_token(Path(secret.argument[0]))
        hint = "log in with claude on this host"
    else:
        done = checked(runner, Command(secret.argument, timeout=60), f"{where}the command of a secret failed")
        value, hint = (
            _text(done.stdout, secret, where).strip(),
            "run the command by hand and look at what it prints",
        )
    if not value:
        raise NotFoundError(f"{where}the secret {secret.kind}:{secret.argument[0]} is empty or missing", hint)
    return value


def _text(said: bytes, secret: SecretRef, where: str) -> str:
    try:
        return said.decode()
    except UnicodeDecodeError:  # whose text would quote a byte of it
        name = f"{secret.kind}:{secret.argument[0]}"
        raise BottleError(f"{where}what the secret {name} gave is not UTF-8 text") from None


def _file(path: Path, where: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise BottleError(f"{where}the secret file {path} is longer than 1 MiB")
        return content.decode()
    except OSError as error:
        raise BottleError(f"{where}the secret file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # whose text would quote a byte of it
        raise BottleError(f"{where}the secret file {path} cannot be read: it is not UTF-8 text") from None


def _login_token(path: Path) -> str:
    try:
        token = json.loads(_file(path, ""))["claudeAiOauth"]["accessToken"]
    except (ValueError, KeyError, TypeError) as error:
        raise BottleError(f"{path} holds no login of Claude Code") from error
    if not isinstance(token, str):
        raise BottleError(f"{path} holds no login of Claude Code")
    return token


Ask = Callable[[str], str]


def private_environment(
    declared: Mapping[str, EnvValue], environment: Mapping[str, str], ask: Ask
) -> dict[str, str]:
    """What the manifest takes from the host or the operator. Raises NotFoundError for a missing variable."""
    found = {}
    for name, value in declared.items():
        if value.kind == "host":
            if value.value not in environment:
                raise NotFoundError(
                    f"env {name}: {value.value} is not set on this host", f"export {value.value}"
                )
            found[name] = environment[value.value]
        elif value.kind == "ask":
            found[name] = ask(value.value or f"{name}: ")
    return found


def find_claude(environment: Mapping[str, str], checkout: Path) -> Path:
    """The native binary: `$CLAUDE_BOTTLE_CLAUDE`, the one pinned in the checkout, or the one on PATH."""
    from claude_bottle.proc import find_program

    chosen = environment.get("CLAUDE_BOTTLE_CLAUDE")
    if chosen:
        return _native(Path(chosen), "CLAUDE_BOTTLE_CLAUDE")
    pinned = sorted(checkout.glob(".tools/claude-code/*/claude"), key=lambda path: path.stat().st_mtime)
    if pinned:
        return _native(pinned[-1], "the checkout")
    found = find_program("claude", environment.get("PATH"))
    if found is None:
        raise NotFoundError(
            "there is no Claude Code on this host", "run script/bootstrap, or set CLAUDE_BOTTLE_CLAUDE"
        )
    return _native(Path(os.path.realpath(found)), "PATH")


def _native(path: Path, origin: str) -> Path:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise NotFoundError(
            f"the Claude Code binary of {origin} cannot be read: {path}: {error.strerror}"
        ) from error
    if magic != b"\x7fELF":
        raise NotFoundError(
            f"{path} is not the native Claude Code binary",
            "run script/bootstrap, or point CLAUDE_BOTTLE_CLAUDE to the binary of the platform package",
        )
    return path
