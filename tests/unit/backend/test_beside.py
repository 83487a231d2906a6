"""A call beside its caller: it begins at once, and what it returns or raises is had by waiting, as often as asked."""

from __future__ import annotations

import threading

import pytest

from claude_bottle.backend.beside import Beside
from tests.support.processes import PATIENCE


def test_it_begins_before_anybody_waits() -> None:
    begun, go = threading.Event(), threading.Event()

    def call() -> int:
        begun.set()
        assert go.wait(PATIENCE)
        return threading.get_ident()

    beside = Beside(call)
    assert begun.wait(PATIENCE)
    go.set()
    assert beside.wait() != threading.get_ident()
    assert beside.wait() == beside.wait()


def test_nothing_is_a_result_too() -> None:
    assert Beside(lambda: None).wait() is None


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_error_is_raised_where_it_is_waited_for_and_every_time(error: BaseException) -> None:
    def call() -> None:
        raise error

    beside = Beside(call)
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            beside.wait()
        assert caught.value is error


def test_several_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE)
    assert sorted(call.wait() for call in [Beside(meeting.wait) for _ in range(3)]) == [0, 1, 2]
