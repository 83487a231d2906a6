"""Durations as an operator writes and reads them."""

from __future__ import annotations

import pytest

from claude_bottle.policy.durations import parse_duration, parse_uses, spoken


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("30m", 1800), ("2h", 7200), ("1d", 86400)])
def test_written(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0m", "-1m", "1.5h", "m", "30", "30 m", "1w", "367d", "99999999d", "\u0661h", "1h30m", "1h\n"],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0s"),
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (3600, "1h"),
        (3601, "1h"),
        (4859, "1h20m"),
        (86400, "1d"),
        (90000, "1d1h"),
    ],
)
def test_spoken(seconds: float, said: str) -> None:
    assert spoken(seconds) == said


@pytest.mark.parametrize(("text", "uses"), [("1", 1), ("3", 3), ("007", 7), ("1000000", 1_000_000)])
def test_uses_written(text: str, uses: int) -> None:
    assert parse_uses(text) == uses


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1000001", " 3", "3\n", "\u0663", "²", "9" * 9000])
def test_uses_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number from 1 to 1000000"):
        parse_uses(text)
