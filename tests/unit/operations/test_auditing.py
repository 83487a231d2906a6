"""Choosing lines of the audit log, and saying them in a few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_bottle.errors import UsageError
from claude_bottle.operations.auditing import as_fields, moment, select
from claude_bottle.state import audit
from claude_bottle.state.paths import Home

NOW = datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made, now = Home(tmp_path), datetime.now(UTC)
    for hours, kind, slug, agent in (
        (60, "start", "a-11111", "a"),
        (50, "decision", "a-11111", "a"),
        (2, "start", "b-22222", "b"),
        (1, "decision", "b-22222", "b"),
    ):
        audit.append(made, kind, slug=slug, agent=agent, now=lambda hours=hours: now - timedelta(hours=hours))  # type: ignore[misc]
    return made


@pytest.mark.parametrize(
    ("agent", "since", "kind", "expected"),
    [
        (None, None, None, [1, 2, 3, 4]),
        ("a", None, None, [1, 2]),
        ("b-22222", None, None, [3, 4]),
        ("nobody", None, None, []),
        (None, "90m", None, [4]),
        (None, "3h", None, [3, 4]),
        (None, None, "start", [1, 3]),
        ("b", "7d", "decision", [4]),
    ],
)
def test_lines_are_chosen_by_agent_time_and_kind(
    home: Home, agent: str | None, since: str | None, kind: str | None, expected: list[int]
) -> None:
    assert [line["seq"] for line in select(home, agent, since, kind)] == expected


def test_what_is_damaged_is_never_left_out(home: Home) -> None:
    path = home.root / "audit" / audit.days(home)[-1]
    path.write_bytes(path.read_bytes() + b"garbage\n")
    assert [line["kind"] for line in select(home, "nobody", None, "stop")] == ["damaged"]


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "5", "1h2", "\x1b[31m"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, NOW)


def test_a_date_is_the_operator_s_own_and_a_zone_counts() -> None:
    assert moment("2026-11-22T10:00+02:00", NOW) == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert moment("2026-11-22", NOW) == datetime(2026, 11, 22).astimezone(UTC)


def test_a_line_is_five_fields_whatever_it_holds(home: Home) -> None:
    odd = {
        "seq": 1,
        "kind": "x",
        "who": "nobody",
        "from": [],
        "granted": {"route": "no"},
        "gone": "text",
        "at": 5,
    }
    for line in (*audit.read(home), odd, {"kind": "damaged"}):
        assert len(as_fields(line)) == 5
