"""A folder for what one test calls, and the end of whatever still runs there after it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.processes import running_with


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in running_with(str(tmp_path)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
