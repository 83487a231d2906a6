"""A decision is in the file, whole and on one line, or the caller hears of it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from claude_bottle.sidecars.decisions import MAX_TEXT, DecisionLog, format_event

ROOT = Path(__file__).resolve().parents[3]
NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def log_at(path: Path, max_bytes: int = 1 << 20) -> DecisionLog:
    return DecisionLog(path, max_bytes, now=lambda: NOON)


def test_keys_are_sorted_and_the_time_is_utc() -> None:
    line = format_event({"host": "x", "allowed": True}, NOON.astimezone(timezone(timedelta(hours=5))))
    assert line == b'{"allowed":true,"at":"2026-11-21T12:00:00.123Z","host":"x"}\n'


def test_an_event_cannot_choose_its_time() -> None:
    assert json.loads(format_event({"at": "yesterday"}, NOON))["at"] == "2026-11-21T12:00:00.123Z"


def test_hostile_text_stays_on_one_plain_line() -> None:
    hostile = "\x1b]2;owned\x07\r\n\0\u202e\ud800\x9b" + "a" * 5000
    line = format_event(
        {"host": hostile, "list": [hostile] * 1000, "deep": {"a": {"b": {"c": {"d": [1]}}}}}, NOON
    )
    assert line.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in line[:-1])
    assert len(json.loads(line)["host"]) == MAX_TEXT
    assert len(json.loads(line)["list"]) == 64
    assert json.loads(line)["deep"] == {"a": {"b": {"c": {"d": "..."}}}}


def test_an_unknown_value_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    log = log_at(tmp_path / "log")
    for value in (object(), float("nan"), b"bytes"):
        with pytest.raises((TypeError, ValueError)):
            log.record({"x": value})
    log.close()
    assert (tmp_path / "log").read_bytes() == b""


def test_lines_are_appended_to_a_private_file(tmp_path: Path) -> None:
    for number in range(2):
        log = log_at(tmp_path / "log")
        log.record({"n": number})
        log.close()
    assert [json.loads(line)["n"] for line in (tmp_path / "log").read_text().splitlines()] == [0, 1]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_full_file_is_kept_once(tmp_path: Path) -> None:
    log = log_at(tmp_path / "log", max_bytes=200)
    for number in range(20):
        log.record({"n": number})
    log.close()
    kept = [
        json.loads(line)["n"]
        for name in ("log.1", "log")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == list(range(kept[0], 20))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size <= 200 for path in tmp_path.iterdir())


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        log_at(tmp_path / "log")


def test_a_closed_file_is_an_error(tmp_path: Path) -> None:
    log = log_at(tmp_path / "log")
    log.close()
    with pytest.raises(OSError):
        log.record({})


def test_a_rotation_that_fails_is_an_error_until_it_works(tmp_path: Path) -> None:
    log = log_at(tmp_path / "log", max_bytes=60)
    log.record({"n": 1})
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "full").touch()
    with pytest.raises(OSError):
        log.record({"n": 2})
    (tmp_path / "log.1" / "full").unlink()
    (tmp_path / "log.1").rmdir()
    log.record({"n": 3})
    log.close()
    assert [json.loads((tmp_path / name).read_text())["n"] for name in ("log.1", "log")] == [1, 3]


HALF_A_LINE = """
import resource, signal, sys
from claude_bottle.sidecars.decisions import DecisionLog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = DecisionLog(sys.argv[1])
log.record({"n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (len(open(sys.argv[1]).read()) + 10, resource.RLIM_INFINITY))
try:
    log.record({"n": 2})
except OSError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.record({"n": 3})
"""


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """A limit on the size of files makes the kernel take a part of a line, as a full disk does."""
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", HALF_A_LINE, str(path)], check=True, cwd=ROOT)
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]
