"""One real bottle for each module of attacks, and the means to run an attack inside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend import known_backend_names
from claude_bottle.operations.launch import Launched
from tests.support.bottles import World, make_world, python_inside
from tests.support.listeners import Upstream

BACKENDS = [
    *(pytest.param(name, marks=pytest.mark.needs(name, "envoy", "claude")) for name in known_backend_names()),
    pytest.param("docker runsc", marks=pytest.mark.needs("gvisor", "envoy", "claude")),
]
UPSTREAM_HOST = "inspected.example.org"

# What every attack begins with: a call's outcome is "DONE" or the name of the error.
PREAMBLE = """
import ctypes, errno, json, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def tried(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    return "DONE"
def called(function, *arguments):
    ctypes.set_errno(0)
    result = function(*arguments)
    return "DONE" if result >= 0 else errno.errorcode[ctypes.get_errno()]
NUMBERS = {"x86_64": 0, "aarch64": 1}
def numbered(x86_64, aarch64, *arguments):
    number = (x86_64, aarch64)[NUMBERS[os.uname().machine]]
    return called(libc.syscall, ctypes.c_long(number), *arguments)
def report(**found):
    print(json.dumps(found))
"""

_TOLD_BYTES = 6000

Attack = Callable[..., Any]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the bottle's own logs say of it."""
    report = yield
    cell = getattr(item, "funcargs", {}).get("cell")
    if report.failed and isinstance(cell, Launched):
        for log in sorted(cell.paths.logs.glob("*")):
            text = log.read_text(errors="replace")[-_TOLD_BYTES:]
            report.sections.append((f"{log.name} of {cell.metadata.slug}", text))
    return report


@pytest.fixture(params=BACKENDS, scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    backend, _, runtime = str(request.param).partition(" ")
    common = {"runtime": runtime} if runtime else {}
    return make_world(tmp_path_factory.mktemp("escape"), backend, common=common)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The operator's own server behind an inspected route; it remembers what reached it."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def cell(world: World, upstream: Upstream) -> Iterator[Launched]:
    """The bottle that is attacked."""
    routes = [{"host": UPSTREAM_HOST, "methods": ["GET"], "paths": ["/allowed"], "upstream": upstream.url}]
    world.declare({"egress": {"routes": routes}})
    with world.bottle() as launched:
        yield launched


@pytest.fixture(scope="module")
def attack(cell: Launched) -> Attack:
    """Runs Python inside and returns what it reported."""

    def run(code: str, *arguments: str, timeout: float = 60.0) -> Any:
        import textwrap

        done = python_inside(cell.bottle, PREAMBLE + textwrap.dedent(code), *arguments, timeout=timeout)
        assert done.status == 0, done.stderr.decode(errors="replace")
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def folder(world: World) -> Path:
    return world.folder
