"""The lock of a bottle's run directory: the kernel says who holds it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap.lock import LOCK, lock_holder, take_lock
from tests.support.keepers import held


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert lock_holder(str(tmp_path)) == 0


def test_the_kernel_names_the_holder(tmp_path: Path) -> None:
    with held(tmp_path) as holder:
        assert lock_holder(str(tmp_path)) == holder.pid
        with pytest.raises(BlockingIOError):
            take_lock(str(tmp_path))
        holder.kill()
        holder.wait()
        assert lock_holder(str(tmp_path)) == 0
    os.close(take_lock(str(tmp_path)))


def test_the_lock_is_private(tmp_path: Path) -> None:
    os.close(take_lock(str(tmp_path)))
    assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o600
