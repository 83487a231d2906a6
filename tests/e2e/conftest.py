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

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, python_main, scripted

ORDINARY = 1500


@pytest.fixture
def cli(claude_binary: Path, envoy_binary: Path) -> Iterator[Cli]:
    yield from operator(claude_binary, envoy_binary)


@pytest.fixture(params=["self", "ordinary"])
def anyone(request: pytest.FixtureRequest, claude_binary: Path, envoy_binary: Path) -> Iterator[Cli]:
    """The operator as who runs the tests and, where that is root, as an ordinary user too."""
    if request.param == "self":
        yield from operator(claude_binary, envoy_binary)
        return
    if os.geteuid() != 0:
        pytest.skip("needs root: it is an ordinary user who runs the tests already")
    python = python_of(ORDINARY)
    if python is None:
        pytest.skip(f"needs a Python with this one's packages that user {ORDINARY} can run")
    yield from operator(claude_binary, envoy_binary, uid=ORDINARY, command=python_main(python))


def operator(
    claude: Path, envoy: Path, uid: int | None = None, command: tuple[str, ...] | None = None
) -> Iterator[Cli]:
    # pytest's own tmp_path can be entered by nobody else.
    folder = Path(tempfile.mkdtemp(prefix="claude-bottle-e2e-")).resolve()
    try:
        folder.chmod(0o755)
        cli = Cli(folder, claude, envoy, uid, command or python_main())
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
def idle() -> Iterator[ScriptedModel]:
    """A model for bottles in which nobody asks it anything."""
    with scripted({"say": "Hello."}) as model:
        yield model
