"""What there is to know of the engine: asked of it once, then judged. Only `observe` runs anything.

Invariant: an engine of which something needed cannot be learnt is not fit.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from claude_bottle.backend.base import Readiness
from claude_bottle.errors import BottleError
from claude_bottle.proc import Command, Runner, find_program
from claude_bottle.text import shown

# What the engine's client reads of the operator's environment.
VARIABLES = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_API_VERSION"),
    *("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "SSH_AUTH_SOCK"),
)
_OLDEST = (20, 10)
_SECONDS = 10.0
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"


class EngineFacts(NamedTuple):
    """`local`: the engine sees this host's files, at the same paths and with the same owners."""

    endpoint: str = ""
    version: str = ""
    machine: str = ""
    system: str = ""
    local: bool = False
    rootless: bool = False
    seccomp: bool = False
    limits: bool = False  # memory, processors and processes can be limited
    runtimes: tuple[str, ...] = ()
    kernel: str = ""  # "linux" or "windows"
    fault: str = ""  # why nothing could be learnt
    hint: str | None = None


def docker(*arguments: str, stdin: bytes = b"", timeout: float = 60.0, limit: int = 64 << 20) -> Command:
    return Command(("docker", *arguments), stdin=stdin, timeout=timeout, limit=limit, keep=VARIABLES)


def observe(runner: Runner, environment: Mapping[str, str]) -> EngineFacts:
    endpoint, lacking = reach(runner, environment)
    if lacking is not None:
        return lacking
    try:
        done = runner.run(docker("info", "--format", "{{json .}}", timeout=_SECONDS))
        info = json.loads(done.stdout) if done.status == 0 else {}
    except (BottleError, ValueError, RecursionError) as error:
        return _unasked(error)
    if not isinstance(info, dict) or done.status != 0 or not info.get("ServerVersion"):
        return _no_engine(done.complaint, info)
    try:
        return facts_from(info, endpoint, os.uname().nodename)
    except (TypeError, ValueError) as error:
        return EngineFacts(fault=f"the engine describes itself in a form that is not known: {error}")


def reach(runner: Runner, environment: Mapping[str, str]) -> tuple[str, EngineFacts | None]:
    """Where the engine is, and what is lacking to ask it; learnt without asking."""
    if find_program("docker", environment.get("PATH")) is None:
        hint = "install Docker, or use --backend bubblewrap"
        return "", EngineFacts(fault="docker is not installed", hint=hint)
    try:
        endpoint = _endpoint(runner, environment)
    except BottleError as error:
        return "", _unasked(error)
    reason = _silent(endpoint)
    return endpoint, None if reason is None else _no_engine(reason, {})


def _unasked(error: Exception) -> EngineFacts:
    return EngineFacts(fault=f"the engine cannot be asked: {shown(str(error))}")


def _silent(endpoint: str) -> str | None:
    """Why nothing listens on a local socket, which is learnt at once; None where something may."""
    scheme, _, path = endpoint.partition("://")
    if scheme != "unix":
        return None
    with socket.socket(socket.AF_UNIX) as trial:
        trial.settimeout(_SECONDS)
        try:
            trial.connect(path)
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return None


def _no_engine(complaint: str, info: object) -> EngineFacts:
    if isinstance(info, dict) and "host" in info and "version" in info:
        return EngineFacts(
            fault="this docker is podman, with which bottles have not been proved",
            hint="use Docker's engine, or --backend bubblewrap",
        )
    errors = info.get("ServerErrors") if isinstance(info, dict) else None
    reason = str(errors[0]) if isinstance(errors, list) and errors else complaint
    return EngineFacts(
        fault=f"the engine does not answer: {shown(reason)}",
        hint="start Docker (its service, or Docker Desktop); `docker info` must work for you",
    )


def _endpoint(runner: Runner, environment: Mapping[str, str]) -> str:
    """Where the client finds the engine: $DOCKER_HOST, or the current context's."""
    if host := environment.get("DOCKER_HOST"):
        return host
    folder = environment.get("DOCKER_CONFIG") or (
        os.path.join(environment["HOME"], ".docker") if environment.get("HOME") else None
    )
    chosen = environment.get("DOCKER_CONTEXT") or (
        _current_context(os.path.join(folder, "config.json")) if folder else ""
    )
    if chosen in ("", "default"):
        return _DEFAULT_ENDPOINT
    done = runner.run(docker("context", "inspect", chosen, "--format", "{{.Endpoints.docker.Host}}"))
    return done.text.strip() if done.status == 0 else ""


def _current_context(path: str) -> str:
    try:
        with open(path, "rb") as file:
            found = json.load(file).get("currentContext", "")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise BottleError(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, str) else ""


def facts_from(info: Mapping[str, Any], endpoint: str, hostname: str) -> EngineFacts:
    """Pure. `info` is what `docker info` says."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    rootless = any("rootless" in option for option in options)
    remapped = any("userns" in option for option in options)
    system = str(info.get("OperatingSystem", ""))
    here = endpoint.startswith("unix://") and info.get("Name") == hostname and "Desktop" not in system
    limits = all(info.get(name) is True for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota"))
    return EngineFacts(
        endpoint=endpoint,
        version=str(info.get("ServerVersion", "")),
        machine=_MACHINES.get(str(info.get("Architecture", "")), ""),
        kernel=str(info.get("OSType", "")),
        system=system,
        local=here and not rootless and not remapped,
        rootless=rootless,
        seccomp=any("seccomp" in option for option in options),
        limits=limits,
        runtimes=tuple(sorted(str(name) for name in info.get("Runtimes") or ())),
    )


def judge(facts: EngineFacts) -> Readiness:
    """Pure."""
    if facts.fault:
        return Readiness(False, facts.fault, facts.hint)
    if _number(facts.version) < _OLDEST:
        return Readiness(False, f"engine {facts.version} is older than 20.10", "update Docker")
    if facts.kernel == "windows":
        return Readiness(False, "the engine runs Windows containers", "switch it to Linux containers")
    if facts.kernel != "linux":
        return Readiness(False, "the engine does not say that it runs Linux containers")
    if not facts.machine:
        return Readiness(False, "the engine's processor is neither x86_64 nor aarch64")
    if not facts.seccomp:
        return Readiness(False, "the engine has no system call filters", "use an engine with seccomp")
    place = "this host's" if facts.local else "not this host's: files are copied"
    return Readiness(
        True,
        facts=(("docker", f"engine {facts.version} at {facts.endpoint}, {place}, {facts.system}"),),
    )


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if all(map(str.isdecimal, parts)) else ()
