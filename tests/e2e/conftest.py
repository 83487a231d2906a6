"""An operator for each test. Whatever a test did, nothing of it may run when it is over."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from claude_bottle.backend import known_backend_names
from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, python_main, scripted
from tests.support.e2e_terminal import Terminal, know_command, terminal

ORDINARY = 1500


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test with every backend, but where it, or its module, is marked with `backends(*names)`."""
    if "backend" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("backends")
        names = marker.args if marker else known_backend_names()
        values = [pytest.param(name, marks=pytest.mark.needs(name)) for name in names]
        metafunc.parametrize("backend", values, indirect=True, scope="module")


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cli(backend: str, claude_binary: Path, envoy_binary: Path) -> Iterator[Cli]:
    yield from operator(backend, claude_binary, envoy_binary)


@pytest.fixture(params=["self", "ordinary"])
def anyone(
    request: pytest.FixtureRequest, backend: str, claude_binary: Path, envoy_binary: Path
) -> Iterator[Cli]:
    """The operator as who runs the tests and, where that is root, as an ordinary user too."""
    if request.param == "self":
        yield from operator(backend, claude_binary, envoy_binary)
        return
    if backend == "docker":
        pytest.skip("whoever may use the engine is as good as root")
    if os.geteuid() != 0:
        pytest.skip("needs root: it is an ordinary user who runs the tests already")
    python = python_of(ORDINARY)
    if python is None:
        pytest.skip(f"needs a Python with this one's packages that user {ORDINARY} can run")
    yield from operator(backend, claude_binary, envoy_binary, uid=ORDINARY, command=python_main(python))


def operator(
    backend: str, claude: Path, envoy: Path, uid: int | None = None, command: tuple[str, ...] | None = None
) -> Iterator[Cli]:
    # pytest's own tmp_path can be entered by nobody else.
    folder = Path(tempfile.mkdtemp(prefix="claude-bottle-e2e-")).resolve()
    try:
        folder.chmod(0o755)
        cli = Cli(folder, backend, claude, envoy, uid, command or python_main())
        try:
            yield cli
        finally:
            cli.close()
        assert cli.leftovers() == []
    finally:  # rm, as what a bottle left may be too deep for Python's own
        subprocess.run(["chmod", "-R", "u+rwX", folder], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", folder], check=True)


def python_of(uid: int) -> str | None:
    """An interpreter that runs this checkout, with this environment's packages, as that user."""
    for python in (sys.executable, "/usr/bin/python3"):
        *start, main = python_main(python)[:4]
        probing = [
            *start,
            main.replace("from claude_bottle", "import cryptography.x509, yaml; from claude_bottle", 1),
        ]
        with suppress(OSError):
            done = subprocess.run(
                [*probing, "--version"],
                user=uid,
                group=uid,
                extra_groups=[],
                cwd="/",
                env={},
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return python
    return None


@pytest.fixture
def with_command(cli: Cli) -> Cli:
    """An operator in a repository, whose shells know the command."""
    cli.repository()
    know_command(cli)
    return cli


@pytest.fixture
def shell(with_command: Cli) -> Iterator[Terminal]:
    """One of those shells, on a terminal."""
    with terminal(with_command) as found:
        yield found


@pytest.fixture
def idle() -> Iterator[ScriptedModel]:
    """A model for bottles in which nobody asks it anything."""
    with scripted({"say": "Hello."}) as model:
        yield model


@pytest.fixture
def ready(cli: Cli, idle: ScriptedModel) -> Cli:
    """An operator with a repository and a manifest, for bottles in which nobody asks the model."""
    cli.repository()
    cli.manifest(idle.url)
    return cli
