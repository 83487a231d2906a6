"""What is read from the product's steps, from /proc, and asked of the policy."""

from __future__ import annotations

import os

import pytest

from bench.memory import family, field, parse_stat, part_name, weigh
from bench.operator import critical_path, step_name
from bench.routes import INSPECTED, LOCAL, RAW, TUNNEL, policy
from claude_bottle.policy.routes import decide_connect, decide_request


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("  certificates 48 ms", "certificates"),
        ("  proved by 7 checks from inside 181 ms", "proved"),
        ("workspace  clone of somewhere at 11f6fcb7ba", None),
        ("           limits: 4096 processes", None),
        ("  it took many ms", None),
        ("  12 ms", None),
        ("", None),
    ],
)
def test_steps_are_told_from_talk(line: str, name: str | None) -> None:
    assert step_name(line) == name


def test_the_steps_add_up_to_the_whole() -> None:
    lines = [
        (0.25, "agent bench"),
        (0.26, "note: something"),
        (0.5, "  workspace 23 ms"),
        (0.75, "  gate 5 ms"),
    ]
    path = critical_path(lines, 1.0)
    assert path == (("prepare", 0.25), ("workspace", 0.25), ("gate", 0.25), ("rest", 0.25))
    assert sum(seconds for _, seconds in path) == 1.0


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (b"12 (cat) S 7 12 12 0", (7, "cat")),
        (b"12 (a) R 1 (b) S 7 12", (7, "a) R 1 (b")),
    ],
)
def test_a_process_name_may_hold_brackets(text: bytes, parsed: tuple[int, str]) -> None:
    assert parse_stat(text) == parsed


def test_a_family_is_the_process_and_all_below_it() -> None:
    known = {1: (0, "init"), 5: (1, "keeper"), 6: (5, "bwrap"), 7: (6, "envoy"), 8: (1, "other")}
    assert sorted(family(5, known)) == [(5, "keeper"), (6, "bwrap"), (7, "envoy")]
    assert family(99, known) == []


@pytest.mark.parametrize(
    ("is_root", "name", "part"),
    [
        (True, "claude-bottle", "keeper"),
        (False, "claude-bottle", "guard"),
        (True, "bwrap", "bwrap"),
        (False, "cat", "anchor"),
        (False, "envoy", "envoy"),
    ],
)
def test_the_parts_of_a_bottle_have_names(is_root: bool, name: str, part: str) -> None:
    assert part_name(is_root, name) == part


def test_memory_fields_are_in_kilobytes() -> None:
    text = "00400000-7fff r--p 00000000 00:00 0 [rollup]\nRss:    20 kB\nPss:      1234 kB\nPss_Dirty: 5 kB\n"
    assert field(text, "Pss") == 1234 * 1024
    with pytest.raises(ValueError, match="Swap"):
        field(text, "Swap")


def test_this_very_process_weighs_something() -> None:
    assert weigh(os.getpid()).total > 1


def test_a_child_that_has_just_ended_weighs_nothing() -> None:
    child = os.posix_spawnp("true", ["true"], os.environ)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert "true" not in weigh(os.getpid()).parts
        with pytest.raises(ProcessLookupError):
            weigh(child)
    finally:
        os.waitpid(child, 0)


def test_the_policy_lets_through_what_is_measured() -> None:
    ports = {TUNNEL: 1001, RAW: 1002, LOCAL: 1003}
    made = policy(ports)
    ways = {host: decide_connect(made, host, 443).route for host in (TUNNEL, RAW, INSPECTED)}
    assert [(route.inspect, route.upstream.port) for route in ways.values() if route and route.upstream] == [
        (False, 1001),
        (False, 1002),
        (True, 1003),
    ]
    assert decide_request(made, INSPECTED, 443, "POST", "/v1/messages").allowed
    assert decide_request(made, INSPECTED, 443, "GET", "/events/40").allowed
