"""Asking all backends at once: a broken or slow one costs a warning row, and hides nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from claude_bottle.backend.base import ActiveAgent, Look
from claude_bottle.backend.fleet import Loader, enumerate_all, look_at_all

STATE = Path("/nowhere/state")


class Pretended:
    """A backend of which only `active` is asked for."""

    def __init__(self, active: Callable[[Path], list[ActiveAgent]]) -> None:
        self.active = active


def loader(active: Callable[[Path], list[ActiveAgent]]) -> Loader:
    return lambda name: Pretended(active)  # type: ignore[return-value]


def row(backend: str, slug: str, started: float) -> ActiveAgent:
    return ActiveAgent(backend, slug, "agent", started, ("egress",))


def test_all_rows_come_in_the_order_of_their_start() -> None:
    rows = [
        row("a", "x-00000", 3.0),
        row("b", "y-00000", 1.0),
        row("a", "z-00000", 2.0),
        row("b", "a-00000", 3.0),
    ]

    def of(name: str) -> Loader:
        return loader(lambda state: [item for item in rows if item.backend_name == name])

    loaders = {name: of(name) for name in ("a", "b")}
    found = enumerate_all(loaders, STATE, timeout=30)
    assert [item.slug for item in found] == ["y-00000", "z-00000", "a-00000", "x-00000"]


def test_each_backend_is_told_where_the_state_is() -> None:
    told: list[Path] = []

    def active(state: Path) -> list[ActiveAgent]:
        told.append(state)
        return []

    assert enumerate_all({"a": loader(active), "b": loader(active)}, STATE, timeout=30) == []
    assert told == [STATE, STATE]


def raise_it(error: BaseException) -> Callable[[Path], list[ActiveAgent]]:
    def active(state: Path) -> list[ActiveAgent]:
        raise error

    return active


@pytest.mark.parametrize("error", [OSError("socket gone"), KeyError("Id"), ImportError("no module")])
def test_a_broken_backend_is_a_row_with_a_warning(error: Exception) -> None:
    loaders = {"good": loader(lambda state: [row("good", "x-00000", 1.0)]), "bad": loader(raise_it(error))}
    warning, fine = enumerate_all(loaders, STATE, timeout=30)
    assert (warning.backend_name, warning.slug) == ("bad", "-")
    assert type(error).__name__ in warning.warning
    assert (fine.slug, fine.warning) == ("x-00000", "")


def test_a_backend_that_cannot_be_loaded_is_a_row_with_a_warning() -> None:
    def broken(name: str) -> Pretended:
        raise ImportError("its library is missing")

    (warning,) = enumerate_all({"bad": broken}, STATE, timeout=30)  # type: ignore[dict-item]
    assert "its library is missing" in warning.warning


def test_a_slow_backend_is_a_row_with_a_warning_and_holds_nobody_up() -> None:
    released, done = threading.Event(), threading.Event()

    def never(state: Path) -> list[ActiveAgent]:
        released.wait(60)
        done.set()
        return []

    loaders = {
        "slow": loader(never),
        "quick": loader(lambda state: [row("quick", "x-00000", 1.0)]),
        "other": loader(never),
    }
    found = enumerate_all(loaders, STATE, timeout=0.3)
    assert not done.is_set(), "it was waited for"
    released.set()
    assert [(item.backend_name, bool(item.warning)) for item in found] == [
        ("other", True),
        ("slow", True),
        ("quick", False),
    ]
    assert "0.3 s" in found[0].warning


def test_without_a_backend_nothing_runs() -> None:
    assert enumerate_all({}, STATE, timeout=0) == []


# What more can be seen


class Seen:
    """A backend of which only `look` is asked for."""

    def __init__(self, look: Callable[[Sequence[str], Path], Iterator[tuple[str, Look]]]) -> None:
        self.look = look


def seen_by(look: Callable[[Sequence[str], Path], Iterator[tuple[str, Look]]]) -> Loader:
    return lambda name: Seen(look)  # type: ignore[return-value]


def all_of(slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
    yield from ((slug, Look(memory=len(str(state)))) for slug in slugs)


def test_every_bottle_is_looked_at_by_its_own_backend() -> None:
    slugs = {"a": ["x-00000", "y-00000"], "b": ["z-00000"]}
    loaders = {"a": seen_by(all_of), "b": seen_by(all_of), "idle": seen_by(never_asked)}
    found, faults = look_at_all(loaders, slugs, STATE, timeout=30)
    assert (set(found), faults) == ({"x-00000", "y-00000", "z-00000"}, [])
    assert {look.memory for look in found.values()} == {len(str(STATE))}


def never_asked(slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
    raise AssertionError("it has no bottle")


def test_a_backend_that_breaks_in_the_middle_keeps_what_it_had_seen() -> None:
    def breaks(slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
        yield slugs[0], Look()
        raise OSError("socket gone")

    slugs = {"bad": ["x-00000", "y-00000"], "good": ["z-00000"]}
    found, faults = look_at_all({"bad": seen_by(breaks), "good": seen_by(all_of)}, slugs, STATE, timeout=30)
    assert set(found) == {"x-00000", "z-00000"}
    assert faults == ["bad: OSError: socket gone"]


def test_a_backend_that_is_too_slow_keeps_what_it_had_seen_and_holds_nobody_up() -> None:
    released, done = threading.Event(), threading.Event()

    def slow(slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
        yield slugs[0], Look()
        released.wait(60)
        done.set()

    slugs = {"slow": ["x-00000", "y-00000"], "quick": ["z-00000"]}
    found, faults = look_at_all({"slow": seen_by(slow), "quick": seen_by(all_of)}, slugs, STATE, timeout=0.5)
    assert not done.is_set(), "it was waited for"
    released.set()
    assert (set(found), faults) == ({"x-00000", "z-00000"}, ["slow: not all was seen within 0.5 s"])


def test_without_a_bottle_nobody_is_asked() -> None:
    assert look_at_all({}, {}, STATE, timeout=0) == ({}, [])
