"""The audit log: what any damage does to it, what a crash may do to it, and many who write at once."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_bottle.errors import BottleError
from claude_bottle.state import audit
from claude_bottle.state.audit import append, days, read
from claude_bottle.state.audit_check import verify
from claude_bottle.state.paths import Home

ROOT = Path(__file__).parents[3]
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def filled(home: Home, lines: int = 12, over_days: int = 3) -> Home:
    for number in range(lines):
        moment = NOON + timedelta(days=number * over_days // lines)
        append(home, "decision", slug=f"a-{number:05}", data={"n": number}, now=at(moment))
    return home


def file_of(home: Home, which: int = -1) -> Path:
    return home.root / "audit" / days(home)[which]


def test_a_line_says_who_did_what_from_where(home: Home) -> None:
    made = append(home, "decision", slug="a-12345", agent="a", data={"proposal": "p-1"})
    (found,) = read(home)
    assert found == made
    assert (found["seq"], found["kind"], found["slug"], found["agent"]) == (1, "decision", "a-12345", "a")
    assert found["who"]["uid"] == os.getuid()
    assert found["from"]["pid"] == os.getpid()
    assert found["proposal"] == "p-1"
    assert datetime.fromisoformat(found["at"]).tzinfo is not None


def test_a_whole_log_has_no_fault(home: Home) -> None:
    report = verify(filled(home))
    assert (report.lines, report.days, report.faults, report.notes) == (12, 3, (), ())


def test_nothing_yet_is_no_fault(home: Home) -> None:
    assert verify(home).faults == ()
    assert list(read(home)) == []


def test_a_line_follows_on_the_last_of_the_day_before(home: Home) -> None:
    filled(home)
    lines = list(read(home))
    assert [line["seq"] for line in lines] == list(range(1, 13))
    assert [line["prev"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]


def test_a_clock_that_was_set_back_stays_in_the_day(home: Home) -> None:
    append(home, "a", now=at(NOON))
    append(home, "b", now=at(NOON - timedelta(days=2)))
    assert days(home) == ["2026-11-22.jsonl"]
    assert verify(home).faults == ()


def _flip(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


def _truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _swap(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    one, other = draw.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def _delete(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[draw.randrange(len(lines))]
    return b"".join(lines)


def _duplicate(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
    return b"".join(lines)


def _insert(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + draw.randbytes(draw.randrange(1, 9)) + data[place:]


def _zero(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes(min(64, len(data) - place)) + data[place + 64 :]


DAMAGE = (_flip, _truncate, _swap, _delete, _duplicate, _insert, _zero)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(DAMAGE), st.integers(0, 2), st.randoms(use_true_random=False), st.booleans())
def test_any_damage_is_found_also_by_those_who_write_on(
    tmp_path_factory: pytest.TempPathFactory,
    damage: Callable[[bytes, random.Random], bytes],
    which: int,
    draw: random.Random,
    write_on: bool,
) -> None:
    home = filled(Home(tmp_path_factory.mktemp("home")))
    path = file_of(home, which)
    path.write_bytes(damage(path.read_bytes(), draw))
    assert verify(home).faults
    if write_on:
        append(home, "later", now=at(NOON + timedelta(days=3)))
        assert verify(home).faults


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_day_that_is_gone_is_found(home: Home, which: int) -> None:
    file_of(filled(home), which).unlink()
    assert verify(home).faults
    append(home, "later", now=at(NOON + timedelta(days=3)))
    assert verify(home).faults


def test_two_days_that_change_their_names_are_found(home: Home) -> None:
    one, other = file_of(filled(home), 0), file_of(home, 1)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert verify(home).faults


@pytest.mark.parametrize("content", [None, b"", b"12 ", b"11", b"0 " + b"0" * 64 + b"\n"])
def test_a_head_that_is_gone_or_another_is_found_and_stays_found(home: Home, content: bytes | None) -> None:
    head = filled(home).root / "audit" / "head"
    if content is None:
        head.unlink()
    else:
        head.write_bytes(content)
    assert verify(home).faults
    if content is None or not content.endswith(b"\n"):
        append(home, "later", now=at(NOON + timedelta(days=3)))
        assert verify(home).faults


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400))
def test_a_crash_at_any_byte_is_no_fault(tmp_path_factory: pytest.TempPathFactory, written: int) -> None:
    """A writer that was killed has written a part of its line, and has not come to the head."""
    home = filled(Home(tmp_path_factory.mktemp("home")), 4, 1)
    path, head = file_of(home), home.root / "audit" / "head"
    before, was = path.read_bytes(), head.read_bytes()
    append(home, "killed", now=at(NOON))
    line = path.read_bytes()[len(before) :]
    path.write_bytes(before + line[:written])
    head.write_bytes(was)
    assert verify(home).faults == ()
    append(home, "later", now=at(NOON + timedelta(days=1)))
    append(home, "latest", now=at(NOON + timedelta(days=1)))
    report = verify(home)
    assert report.faults == ()
    kinds = [entry["kind"] for entry in read(home)]
    torn = 0 < written < len(line)
    whole = written >= len(line)
    assert kinds == ["decision"] * 4 + ["killed"] * whole + ["audit"] * torn + ["later", "latest"]
    assert len(report.notes) == torn


def test_a_crash_between_two_days_is_no_fault(home: Home) -> None:
    """One was killed before the head, the next one right after it had made the file of its day."""
    filled(home, 4, 1)
    was = (home.root / "audit" / "head").read_bytes()
    append(home, "killed", now=at(NOON))
    (home.root / "audit" / "head").write_bytes(was)
    with pytest.raises(KeyboardInterrupt):
        _append_interrupted(home, NOON + timedelta(days=1))
    (home.root / "audit" / "2026-11-23.jsonl").touch()
    append(home, "later", now=at(NOON + timedelta(days=1)))
    assert verify(home).faults == ()


def _append_interrupted(home: Home, moment: datetime) -> None:
    original = audit._write
    try:
        audit._write = _interrupt  # type: ignore[assignment]
        append(home, "interrupted", now=at(moment))
    finally:
        audit._write = original


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_leaves_nothing_half(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(home, 4, 1)
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if b'"kind":"refused"' in data:
            write(descriptor, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        append(home, "refused", now=at(NOON))
    monkeypatch.undo()
    append(home, "later", now=at(NOON))
    assert [line["kind"] for line in read(home)] == ["decision"] * 4 + ["later"]
    assert verify(home) == (5, 1, (), ())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_device_that_is_full_is_an_error(home: Home) -> None:
    (home.root / "audit").mkdir()
    with pytest.raises(OSError):
        audit._write(Path("/dev/full"), b"line\n", new=False)


def test_what_a_stranger_put_there_is_not_followed(home: Home, tmp_path: Path) -> None:
    filled(home, 2, 1)
    target = tmp_path / "precious"
    target.write_text("the host's")
    path = file_of(home)
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(OSError):
        append(home, "x", now=at(NOON))
    assert target.read_text() == "the host's"


def test_text_and_lists_are_bounded_and_no_line_is_broken(home: Home) -> None:
    hostile = "\x1b]2;owned\x07\n\u202e" * 100_000
    append(
        home,
        "decision",
        data={
            "reason": hostile,
            "many": list(range(10_000)),
            "deep": [[[[[[[[[[[[1]]]]]]]]]]]],
            "b": [hostile] * 200,
        },
    )
    append(home, "x")
    assert verify(home).faults == ()
    first = next(iter(read(home)))
    assert len(first["reason"]) == audit.MAX_TEXT
    assert len(first["many"]) == audit.MAX_ITEMS + 1
    assert set(first["b"]) == {"cut", "sha256"}
    raw = file_of(home).read_bytes()
    assert raw.count(b"\n") == 2
    assert all(0x20 <= byte < 0x7F or byte == 0x0A for byte in raw)


def test_data_cannot_pass_for_the_frame(home: Home) -> None:
    for key in audit.FRAME:
        with pytest.raises(ValueError, match="frame"):
            append(home, "x", data={key: "forged"})
    append(home, "x", data={"text": '","hash":"' + "0" * 64 + '"}\n{"seq":1'})
    append(home, "y")
    assert verify(home).faults == ()
    assert [line["kind"] for line in read(home)] == ["x", "y"]


def test_too_much_for_one_line_is_refused_and_nothing_is_written(home: Home) -> None:
    with pytest.raises(BottleError):
        append(
            home,
            "x",
            data={f"k{number}": "y" * 60_000 for number in range(3)}
            | {f"z{n}": ["y" * 1900] * 30 for n in range(20)},
        )
    assert list(read(home)) == []


def test_garbage_without_an_end_is_a_fault_and_the_log_goes_on(home: Home) -> None:
    filled(home, 2, 1)
    with open(file_of(home), "ab") as file:
        file.write(b"x" * (3 * audit.MAX_LINE))
    append(home, "later", now=at(NOON))
    assert verify(home).faults
    assert [line["kind"] for line in read(home)] == ["decision"] * 2 + ["damaged", "audit", "later"]


def test_only_the_days_that_are_asked_for_are_read(home: Home) -> None:
    filled(home)
    assert [line["n"] for line in read(home, NOON + timedelta(days=1))] == list(range(4, 12))


_WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from claude_bottle.state.audit import append
from claude_bottle.state.paths import Home
for number in range(int(sys.argv[4])):
    append(Home(Path(sys.argv[2])), "line", data={"writer": sys.argv[3], "n": number})
    print(number, flush=True)
"""


def writer(home: Home, name: str, lines: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", _WRITER, str(ROOT), str(home.root), name, str(lines)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def test_eight_processes_write_at_once(home: Home) -> None:
    writers = [writer(home, str(number), 25) for number in range(8)]
    for process in writers:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert verify(home) == (200, len(days(home)), (), ())
    for name in range(8):
        assert [line["n"] for line in read(home) if line["writer"] == str(name)] == list(range(25))


def test_writers_that_are_killed_lose_nothing_that_they_have_said_was_written(home: Home) -> None:
    promised: set[tuple[str, int]] = set()
    draw = random.Random(7)
    for attempt in range(12):
        writers = [writer(home, f"{attempt}-{number}", 1000) for number in range(2)]
        for process in writers:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(draw.random() * 0.05)  # where in a line it is killed does not matter, only that it varies
        for number, process in enumerate(writers):
            process.send_signal(signal.SIGKILL)
            said, _ = process.communicate(timeout=60)
            promised |= {(f"{attempt}-{number}", int(word)) for word in [b"0", *said.split()]}
    assert verify(home).faults == ()
    written = {(line["writer"], line["n"]) for line in read(home) if line["kind"] == "line"}
    assert promised <= written


def test_every_line_is_json_that_others_can_read(home: Home) -> None:
    filled(home, 3, 1)
    assert [json.loads(line)["n"] for line in file_of(home).read_text().splitlines()] == [0, 1, 2]
