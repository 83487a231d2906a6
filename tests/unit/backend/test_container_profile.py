"""The filter in the words of a container: it must say what the program says that a bottle is filtered with.

Both are judged call by call: the program by a BPF machine, the profile by a reader of its own below, which follows
the OCI runtime specification: a rule holds where all of its arguments do, and the rules of one call are one or another.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from claude_bottle.backend.seccomp import (
    UnsupportedMachine,
    compile_filter,
    container_profile,
    denied_calls,
)
from tests.support.bpf import refused_with, run_filter

MACHINES = {"x86_64": (0xC000003E, "SCMP_ARCH_X86_64"), "aarch64": (0xC00000B7, "SCMP_ARCH_AARCH64")}
# name: (x86_64, aarch64); written down from the manual
CALLS = {
    "read": (0, 63),
    "clone": (56, 220),
    "execve": (59, 221),
    "ioctl": (16, 29),
    "ptrace": (101, 117),
    "socket": (41, 198),
    "socketpair": (53, 199),
}
_NAMES = "setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr"
NEWER = {name: 463 + place for place, name in enumerate(_NAMES.split())}  # the same on both machines
HIGH = (0, 1 << 32, 1 << 63, 0xFFFFFFFF << 32)
NAMESPACES = {
    *(0x00020000, 0x02000000, 0x04000000),  # mounts, control groups, host name
    *(0x08000000, 0x10000000, 0x20000000, 0x40000000),  # messages, users, processes, network
}
FORK, THREAD = 0x01200011, 0x003D0F00
STREAM = 1


@pytest.fixture(params=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def holds(condition: dict[str, Any], arguments: tuple[int, ...]) -> bool:
    """All arguments are 64 bits wide, and those that are not given are 0."""
    given = (*arguments, 0, 0, 0, 0, 0, 0)[condition["index"]] % (1 << 64)
    value, second = condition["value"], condition.get("valueTwo", 0)
    answers = {
        "SCMP_CMP_NE": given != value,
        "SCMP_CMP_EQ": given == value,
        "SCMP_CMP_GT": given > value,
        "SCMP_CMP_MASKED_EQ": given & value == second,
    }
    return bool(answers[condition["op"]])


@cache
def profile_of(machine: str) -> dict[str, Any]:
    return container_profile(machine)


@cache
def program_of(machine: str) -> bytes:
    return compile_filter(machine)


def by_profile(machine: str, name: str, *arguments: int) -> set[int]:
    """The errnos that its rules answer; none where the call is allowed."""
    profile = profile_of(machine)
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    rules = [rule for rule in profile["syscalls"] if name in rule["names"]]
    return {rule["errnoRet"] for rule in rules if all(holds(item, arguments) for item in rule["args"])}


def by_program(machine: str, name: str, *arguments: int) -> set[int]:
    column = tuple(MACHINES).index(machine)
    number = CALLS[name][column] if name in CALLS else denied_calls(machine)[name][0]
    answer = refused_with(run_filter(program_of(machine), number, arguments, MACHINES[machine][0]))
    return set() if answer is None else {answer}


def agree(machine: str, name: str, *arguments: int) -> set[int]:
    """What both answer."""
    profile, program = by_profile(machine, name, *arguments), by_program(machine, name, *arguments)
    assert profile == program, (name, [hex(item) for item in arguments])
    return profile


def test_every_denied_call_is_denied_by_both_whatever_its_arguments(machine: str) -> None:
    for name, (_, errno) in denied_calls(machine).items():
        for arguments in ((), (1, 1, 1), (16, 0x5412, 0), (FORK,), ((1 << 64) - 1,) * 6):
            assert agree(machine, name, *arguments) == {errno}, name


def test_no_other_call_is_named(machine: str) -> None:
    rules: Any = container_profile(machine)["syscalls"]
    judged = {"clone", "ioctl", "socket", "socketpair"}
    named = {name for rule in rules for name in rule["names"]}
    assert named - NEWER.keys() == denied_calls(machine).keys() | judged
    for name in ("read", "execve", "ptrace"):
        assert agree(machine, name, 0x5412, 0x5412, 17) == set()


@pytest.mark.parametrize("bit", [1 << number for number in range(32)], ids=hex)
def test_clone_makes_no_namespace_whatever_else_it_is_asked_for(machine: str, bit: int) -> None:
    for more in (0, FORK, THREAD, *HIGH):
        assert bool(agree(machine, "clone", bit | more)) == (bit in NAMESPACES)


def test_clone_makes_processes_and_threads(machine: str) -> None:
    for flags in (FORK, THREAD, 0x00004111):
        assert agree(machine, "clone", flags) == set()
    assert agree(machine, "clone", sum(NAMESPACES)) != set()


@pytest.mark.parametrize("high", HIGH, ids=hex)
def test_nothing_types_into_a_terminal(machine: str, high: int) -> None:
    """The kernel looks at the lower half only (CVE-2023-1523)."""
    for request in (0x5412, 0x541C):
        assert agree(machine, "ioctl", 0, request | high) != set()
        assert agree(machine, "ioctl", request | high, 0) == set()
    for request in (0x5401, 0x5410, 0x5413, 0x541B, 0x541D, 0x5412 ^ 0x8000, 0x12, 0):
        assert agree(machine, "ioctl", 0, request | high) == set()


def test_sockets_are_of_few_families(machine: str) -> None:
    families = (*range(64), 255, 256, 0x10001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 64) - 1)
    allowed = {family for family in families if not agree(machine, "socket", family, STREAM, 0)}
    assert allowed == {1, 2, 10, 16}
    allowed = {family for family in families if not agree(machine, "socketpair", family, STREAM, 0)}
    assert allowed == {1}


def test_of_netlink_only_the_route_kind_exists(machine: str) -> None:
    kinds = (*range(32), 255, 0x10000, 0xFFFFFFFF, (1 << 64) - 1)
    assert {kind for kind in kinds if not agree(machine, "socket", 16, 3, kind)} == {0}
    for family in (1, 2, 10):
        assert all(not agree(machine, "socket", family, STREAM, kind) for kind in kinds)


@pytest.mark.parametrize("high", HIGH[1:], ids=hex)
def test_the_upper_half_opens_nothing_that_the_program_refuses(machine: str, high: int) -> None:
    """The kernel ignores it, and so does the program; the profile may refuse more, and does."""
    for family in range(64):
        for kind in (0, 1, 9, high, high | 9):
            for name in ("socket", "socketpair"):
                refused = by_program(machine, name, family | high, STREAM, kind)
                assert not refused or by_profile(machine, name, family | high, STREAM, kind)
                refused = by_program(machine, name, family, STREAM, kind)
                assert not refused or by_profile(machine, name, family, STREAM, kind)


def test_a_call_newer_than_the_table_is_refused_by_both(machine: str) -> None:
    """No engine refuses of itself what a profile with a permissive default does not name."""
    for name, number in NEWER.items():
        answer = run_filter(program_of(machine), number, (), MACHINES[machine][0])
        assert refused_with(answer) is not None, name
    assert [name for name in NEWER if not by_profile(machine, name)] == []


def test_an_engine_can_read_it(machine: str) -> None:
    profile: Any = json.loads(json.dumps(container_profile(machine)))
    assert profile["architectures"] == [MACHINES[machine][1]]
    assert profile.keys() == {"defaultAction", "architectures", "syscalls"}
    for rule in profile["syscalls"]:
        assert rule.keys() == {"names", "action", "errnoRet", "args"}
        assert rule["action"] == "SCMP_ACT_ERRNO"
        assert rule["names"]
        assert 0 < rule["errnoRet"] < 4096
        indexes = [item["index"] for item in rule["args"]]
        assert len(indexes) == len(set(indexes))  # engines read two tests of one argument as one or the other
        for item in rule["args"]:
            assert item.keys() <= {"index", "value", "valueTwo", "op"}
            assert all(0 <= number < 1 << 64 for key, number in item.items() if key != "op")


@pytest.mark.parametrize("name", ["i686", "riscv64", "armv7l", "", "X86_64"])
def test_an_unknown_processor_has_no_profile(name: str) -> None:
    with pytest.raises(UnsupportedMachine):
        container_profile(name)
