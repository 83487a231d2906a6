"""The contract of every backend: a world of its own for each test, and one running bottle for those that only look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_bottle.backend import known_backend_names
from claude_bottle.operations.launch import Launched
from tests.support.bottles import World, make_world, sweep

BACKENDS = [
    pytest.param(name, marks=pytest.mark.needs(name, "envoy", "claude")) for name in known_backend_names()
]


@pytest.fixture(params=BACKENDS, scope="module")
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[World]:
    made = make_world(tmp_path, backend)
    yield made
    sweep(made)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Iterator[Launched]:
    """A bottle for tests that do not end it."""
    with make_world(tmp_path_factory.mktemp("shared"), backend).bottle() as launched:
        yield launched
