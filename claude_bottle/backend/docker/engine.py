"""What there is to know of the engine: asked of it once, then judged. Only `observe` and `find` run anything.

Invariant: an engine of which something needed cannot be learnt is not fit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_bottle.backend.base import Readiness
from claude_bottle.backend.docker import gvisor
from claude_bottle.backend.docker.api import SystemEngine, dial, parsed
from claude_bottle.errors import BottleError
from claude_bottle.proc import Command, Runner, environment_for, find_program
from claude_bottle.text import shown

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

# What the engine's client reads of the operator's environment.
VARIABLES = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_API_VERSION"),
    *("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "SSH_AUTH_SOCK"),
)
_OLDEST = (20, 10)
_SECONDS = 10.0
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_DEFAULT_ENDPOINT = "unix:///var/run/docker.sock"
_START_IT = "start Docker (its service, or Docker Desktop); `docker info` must work for you"


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
    gvisor: tuple[str, ...] | None = None  # what the engine starts it with, where it has it
    release: str = ""  # of the kernel that containers share
    kernel: str = ""  # "linux" or "windows"
    fault: str = ""  # why nothing could be learnt
    hint: str | None = None


_PODMAN = EngineFacts(
    fault="this docker is podman, with which bottles have not been proved",
    hint="use Docker's engine, or --backend bubblewrap",
)


WITHOUT_CLIENT = EngineFacts(
    fault="docker is not installed", hint="install Docker, or use --backend bubblewrap"
)


def docker(*arguments: str, stdin: bytes = b"", timeout: float = 60.0) -> Command:
    """The engine's client, for what the engine itself cannot do: contexts, and builds."""
    return Command(("docker", *arguments), stdin=stdin, timeout=timeout, keep=VARIABLES)


def find(runner: Runner, environment: Mapping[str, str]) -> tuple[str, SystemEngine]:
    """Where the engine is, and the way to it; it is not asked yet. Raises BottleError."""
    endpoint = _endpoint(runner, environment)
    return endpoint, SystemEngine(partial(dial, endpoint, environment_for(docker(), environment)))


def observe(engine: SystemEngine, endpoint: str) -> EngineFacts:
    """Asks it."""
    try:
        if "libpod-api-version" in engine.ping():
            return _PODMAN
        return facts_from(_info(engine), endpoint, os.uname().nodename)
    except BottleError as error:
        return EngineFacts(fault=error.message, hint=_START_IT)
    except (TypeError, ValueError, AttributeError) as error:
        return EngineFacts(fault=f"the engine describes itself in a form that is not known: {error}")


def _info(engine: Engine) -> Mapping[str, Any]:
    info = parsed(engine.ask("GET", "/info", timeout=_SECONDS))
    if not isinstance(info, dict):
        raise TypeError("no object")
    return info


def has_client(environment: Mapping[str, str]) -> bool:
    return find_program("docker", environment.get("PATH")) is not None


def unfit_client(runner: Runner) -> EngineFacts | None:
    """Why the engine's client, which builds images, is of no use; None where it may be."""
    try:
        version = runner.run(docker("--version", timeout=_SECONDS)).text
    except BottleError as error:
        return EngineFacts(fault=f"docker cannot be run: {error.message}")
    return _PODMAN if "podman" in version.lower() else None


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
    if done.status != 0:
        raise BottleError(f"the context {shown(chosen)} cannot be read: {done.complaint}")
    return done.text.strip()


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
    """Pure. `info` is what the engine says of itself."""
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
        gvisor=gvisor.arguments(info.get("Runtimes") or {}),
        release=str(info.get("KernelVersion", "")),
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
