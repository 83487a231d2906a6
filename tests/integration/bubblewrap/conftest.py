"""What only this backend has: a keeper, namespaces, groups of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bottles import World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, "bubblewrap")
