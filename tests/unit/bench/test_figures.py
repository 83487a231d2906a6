"""Which benchmarks a name means, how pairs become a figure, and how it is shown."""

from __future__ import annotations

import json

import pytest

from bench.figures import (
    Figure,
    UnknownNameError,
    as_json,
    as_row,
    compared,
    head_row,
    in_turn,
    part,
    select,
)

KNOWN = (
    "start.bubblewrap",
    "exec.bubblewrap",
    "exec.bubblewrap.framing",
    "gate.bulk",
    "gate.bulk.raw",
    "list.empty",
)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["gate.bulk"], ["gate.bulk"]),
        (["gate"], ["gate.bulk", "gate.bulk.raw"]),
        (["gate.*"], ["gate.bulk", "gate.bulk.raw"]),
        (["*.raw"], ["gate.bulk.raw"]),
        (["exec.bubblewrap"], ["exec.bubblewrap"]),
        (["list", "start", "list.empty"], ["start.bubblewrap", "list.empty"]),
        (["*"], list(KNOWN)),
        ([], []),
    ],
)
def test_a_name_means_itself_or_what_it_begins(wanted: list[str], chosen: list[str]) -> None:
    assert select(wanted, KNOWN) == chosen


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gate.bluk", "gate.bulk"),
        ("gat", "gate"),
        ("gate.b", "gate.bulk"),
        ("nothing-of-it", None),
        ("", None),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name: str, nearest: str | None) -> None:
    with pytest.raises(UnknownNameError) as caught:
        select(["list.empty", name], KNOWN)
    assert (caught.value.name, caught.value.nearest) == (name, nearest)


def test_the_ratio_is_the_median_of_the_pairs_and_not_of_the_medians() -> None:
    # The medians are 10 and 2; pair by pair the ratios are 5, 1 and 100.
    figure = compared("a", "ms", [(10.0, 2.0), (1.0, 1.0), (100.0, 1.0)])
    assert figure == Figure("a", 10.0, "ms", 1.0, 5.0, 3, 1.0, 100.0)
    skewed = compared("a", "ms", [(10.0, 10.0), (20.0, 2.0), (30.0, 1.0)])
    assert (skewed.value, skewed.baseline, skewed.ratio) == (20.0, 2.0, 10.0)


def test_a_baseline_of_nothing_has_no_ratio() -> None:
    assert compared("a", "ms", [(1.0, 0.0), (2.0, 1.0)]).ratio is None


def test_the_two_are_measured_in_turn_after_a_round_that_does_not_count() -> None:
    order: list[str] = []
    values = iter(range(100))

    def measure(name: str) -> float:
        order.append(name)
        return float(next(values))

    pairs = in_turn(lambda: measure("a"), lambda: measure("b"), rounds=2, seconds=60)
    assert order == ["a", "b"] * 3
    assert pairs == [(2.0, 3.0), (4.0, 5.0)]


def test_it_ends_when_the_time_is_over_but_not_with_too_few() -> None:
    now = [0.0]

    def slow() -> float:
        now[0] += 10
        return 1.0

    assert len(in_turn(slow, lambda: 1.0, rounds=50, seconds=5, clock=lambda: now[0])) == 3
    assert len(in_turn(slow, lambda: 1.0, rounds=50, seconds=45, clock=lambda: now[0])) == 5
    assert len(in_turn(slow, lambda: 1.0, rounds=2, seconds=45, clock=lambda: now[0])) == 2


def test_json_has_every_key_and_no_noise() -> None:
    made = json.loads(as_json(compared("gate.bulk", "MB/s", [(1234.5678, 2469.1356)])))
    assert made == {
        "bench": "gate.bulk",
        "value": 1235.0,
        "unit": "MB/s",
        "baseline": 2469.0,
        "ratio": 0.5,
        "runs": 1,
        "min": 1235.0,
        "max": 1235.0,
    }
    assert json.loads(as_json(part("memory.idle.envoy", "MB", [2.0])))["baseline"] is None


def test_rows_stand_below_their_head() -> None:
    rows = [
        head_row(),
        as_row(compared("gate.bulk", "MB/s", [(1234.5, 2.0)])),
        as_row(part("x", "ms", [0.123456])),
    ]
    assert len({len(row) for row in rows}) == 1
    assert rows[1].split() == ["gate.bulk", "1,234", "2", "617.2", "MB/s", "1,234", "1,234", "1"]
    assert rows[2].split() == ["x", "0.1235", "-", "-", "ms", "0.1235", "0.1235", "1"]
