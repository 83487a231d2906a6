"""The system call filter, run call by call by a BPF machine, and its numbers against the kernel's headers."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

import pytest

from claude_bottle.backend.seccomp import UnsupportedMachine, compile_filter, denied_calls
from tests.support.bpf import refused_with, run_filter

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
FOREIGN = {"i386": 0x40000003, "arm": 0x40000028, "riscv64": 0xC00000F3, "nothing": 0}
# name: (x86_64, aarch64), written down a second time from the manual and not from the code under test
CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "ptrace": (101, 117),
    "personality": (135, 92),
    "clone": (56, 220),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone3": (435, 435),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount_setattr": (442, 442),
}
# Every one of these must be refused wherever the machine has it; each is a way to more kernel than an agent needs.
MUST_BE_REFUSED = """
acct add_key bpf chroot clock_settime clone3 delete_module fanotify_init finit_module fsconfig fsmount fsopen
fspick init_module io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl
mount mount_setattr move_mount move_pages name_to_handle_at open_by_handle_at open_tree perf_event_open
pivot_root quotactl quotactl_fd reboot request_key setdomainname sethostname setns settimeofday swapoff swapon syslog
umount2 unshare userfaultfd vhangup
""".split()
CLONE_FLAGS = {
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}
THREAD = 0x003D0F00  # what a C library passes for a thread
FORK = 0x01200011


def number_of(name: str, machine: str) -> int:
    return CALLS[name][tuple(MACHINES).index(machine)]


def judge(machine: str, call: str | int, *arguments: int) -> int | None:
    number = call if isinstance(call, int) else number_of(call, machine)
    return refused_with(run_filter(compile_filter(machine), number, arguments, MACHINES[machine]))


@pytest.fixture(params=list(MACHINES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_denied_call_is_refused_with_its_errno(machine: str) -> None:
    calls = denied_calls(machine)
    answers = {name: judge(machine, number) for name, (number, _) in calls.items()}
    assert answers == {name: code for name, (_, code) in calls.items()}
    assert set(answers.values()) == {errno.EPERM, errno.ENOSYS}


def test_nothing_that_must_be_refused_is_missing(machine: str) -> None:
    assert [name for name in MUST_BE_REFUSED if name not in denied_calls(machine)] == []


def test_no_two_calls_share_a_number(machine: str) -> None:
    numbers = [number for number, _ in denied_calls(machine).values()]
    assert len(numbers) == len(set(numbers))


def test_the_numbers_are_those_of_the_manual(machine: str) -> None:
    known = denied_calls(machine)
    for name in CALLS.keys() & known.keys():
        assert known[name][0] == number_of(name, machine), name


def test_the_numbers_are_those_of_the_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not on this machine")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    there = {name: int(number) for name, number in re.findall(pattern, HEADERS[machine].read_text())}
    assert len(there) > 250
    checked = 0
    for name, (number, _) in denied_calls(machine).items():
        if name in there:
            assert there[name] == number, name
            checked += 1
    assert checked > 45


def test_ordinary_calls_are_allowed(machine: str) -> None:
    for name in ("read", "write", "ptrace"):
        assert judge(machine, name) is None, name


@pytest.mark.parametrize("architecture", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_architecture_gets_nothing_at_all(machine: str, architecture: int) -> None:
    program = compile_filter(machine)
    answers = {refused_with(run_filter(program, number, (), architecture)) for number in range(600)}
    assert answers == {errno.ENOSYS}


def test_each_filter_is_for_its_own_machine_only() -> None:
    assert refused_with(run_filter(compile_filter("x86_64"), 0, (), MACHINES["aarch64"])) == errno.ENOSYS
    assert refused_with(run_filter(compile_filter("aarch64"), 0, (), MACHINES["x86_64"])) == errno.ENOSYS


@pytest.mark.parametrize("number", [463, 464, 511, 512, 547, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_unknown_number_does_not_exist(machine: str, number: int) -> None:
    assert judge(machine, number) == errno.ENOSYS


def test_x32_does_not_exist() -> None:
    answers = {judge("x86_64", 0x40000000 | number) for number in range(600)}
    assert answers == {errno.ENOSYS}


@pytest.mark.parametrize("flag", CLONE_FLAGS.values(), ids=CLONE_FLAGS.keys())
def test_clone_makes_no_namespace(machine: str, flag: int) -> None:
    for flags in (flag, flag | FORK, flag | THREAD, flag | 1 << 40):
        assert judge(machine, "clone", flags) == errno.EPERM


def test_clone_makes_processes_and_threads(machine: str) -> None:
    assert judge(machine, "clone", FORK) is None
    assert judge(machine, "clone", THREAD) is None


ALLOWED_FAMILIES = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}


def test_sockets_are_of_few_families(machine: str) -> None:
    answers = {family: judge(machine, "socket", family, 1, 0) for family in range(64)}
    allowed = {family for family, answer in answers.items() if answer is None}
    assert allowed == ALLOWED_FAMILIES
    assert {answers[family] for family in answers.keys() - allowed} == {errno.EAFNOSUPPORT}
    assert judge(machine, "socket", 0xFFFFFFFF) == errno.EAFNOSUPPORT


def test_the_upper_half_of_a_family_changes_nothing(machine: str) -> None:
    """The kernel looks at an int; so does the filter."""
    assert judge(machine, "socket", (1 << 32) | socket.AF_PACKET) == errno.EAFNOSUPPORT
    assert judge(machine, "socket", (1 << 32) | socket.AF_UNIX) is None


def test_of_netlink_only_the_route_kind_exists(machine: str) -> None:
    answers = {kind: judge(machine, "socket", socket.AF_NETLINK, 3, kind) for kind in range(32)}
    assert {kind for kind, answer in answers.items() if answer is None} == {0}
    assert set(answers.values()) == {None, errno.EPROTONOSUPPORT}


def test_socket_pairs_are_local_only(machine: str) -> None:
    answers = {family: judge(machine, "socketpair", family, 1, 0) for family in range(64)}
    assert {family for family, answer in answers.items() if answer is None} == {socket.AF_UNIX}


@pytest.mark.parametrize("request_number", [0x5412, 0x541C, 0x5412 | 0xABCD << 32, 0x541C | 1 << 63])
def test_nothing_types_into_a_terminal(machine: str, request_number: int) -> None:
    """The upper half is ignored by the kernel (CVE-2023-1523 is about a filter that did not know)."""
    assert judge(machine, "ioctl", 0, request_number) == errno.EPERM


def test_other_terminal_requests_work(machine: str) -> None:
    for request_number in (0x5401, 0x5413, 0x5414, 0x540E):  # TCGETS, TIOCGWINSZ, TIOCSWINSZ, TIOCSCTTY
        assert judge(machine, "ioctl", 0, request_number) is None


def test_an_argument_never_changes_a_refusal(machine: str) -> None:
    """The tests of clone, ioctl and socket do not leak into other calls."""
    for number, _ in denied_calls(machine).values():
        for arguments in ((0,), (0x5412, 0x5412), (16, 3, 0), (1, 1, 1, 1, 1, 1)):
            assert judge(machine, number, *arguments) is not None


@pytest.mark.parametrize("machine_name", ["i686", "riscv64", "armv7l", "ppc64le", "", "X86_64"])
def test_an_unknown_processor_has_no_filter(machine_name: str) -> None:
    with pytest.raises(UnsupportedMachine):
        compile_filter(machine_name)
