"""The sidecar on a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.desks import Sidecar, serving
from tests.unit.sidecars.supervise.calls import QUICK


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    with serving(limits=QUICK) as found:
        yield found
