"""What must be known of a running bottle to enter it: the run directory's files, read and checked.

The keeper holds a record lock on `lock` for as long as the bottle lives and writes `entry`, a line a fact:

    init PID STARTTIME        the bottle's first process
    anchor PID STARTTIME      the program that carries the bottle's environment
    cgroup DIRECTORY          any number
    rlimit NAME VALUE         any number

Invariant: nothing here trusts a bare process number; the kernel names the lock's holder, and start times
tell the bottle's two processes from later ones with their numbers. The environment is the anchor's memory,
which the bottle can write: it is bounded.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections import namedtuple

from claude_bottle.backend import linux
from claude_bottle.backend.bubblewrap.lock import ENTRY, lock_holder

FILTER = "seccomp.bpf"
_MAX_ENVIRONMENT = 2 << 20  # bytes; execve(2) takes no more by default
_KINDS = (
    ("mnt", linux.CLONE_NEWNS),
    ("net", linux.CLONE_NEWNET),
    ("ipc", linux.CLONE_NEWIPC),
    ("uts", linux.CLONE_NEWUTS),
    ("cgroup", linux.CLONE_NEWCGROUP),
    ("pid", linux.CLONE_NEWPID),
)


class NotRunning(Exception):
    """There is no live bottle behind this run directory."""


class Facts(namedtuple("Facts", "init born anchor anchor_born cgroups rlimits", defaults=((), ()))):
    """The contents of `entry`."""

    __slots__ = ()
    init: int
    born: str
    anchor: int
    anchor_born: str
    cgroups: tuple[str, ...]
    rlimits: tuple[tuple[str, int], ...]


class Doors(namedtuple("Doors", "owner namespaces inner environment program cgroups rlimits")):
    """Everything of the host that entering needs, opened before the first namespace is joined."""

    __slots__ = ()
    owner: int  # the user namespace that owns the others
    namespaces: tuple[tuple[int, int], ...]  # (descriptor, kind), in the order of joining
    inner: int  # the user namespace that the bottle's programs live in
    environment: dict[bytes, bytes]
    program: bytes
    cgroups: tuple[int, ...]
    rlimits: tuple[tuple[int, int], ...]


def start_time(pid: int) -> str:
    """When the process started, in clock ticks after boot: proc_pid_stat(5), field 22."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19].decode()


def render(facts: Facts) -> str:
    lines = [f"init {facts.init} {facts.born}", f"anchor {facts.anchor} {facts.anchor_born}"]
    lines += [f"cgroup {directory}" for directory in facts.cgroups]
    lines += [f"rlimit {name} {value}" for name, value in facts.rlimits]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Facts:
    """Raises NotRunning where the text is not a whole `entry` file."""
    words = [line.split(" ") for line in text.splitlines()]
    by_key = {line[0]: line[1:] for line in words}
    try:
        return Facts(
            init=int(by_key["init"][0]),
            born=by_key["init"][1],
            anchor=int(by_key["anchor"][0]),
            anchor_born=by_key["anchor"][1],
            cgroups=tuple(" ".join(line[1:]) for line in words if line[0] == "cgroup"),
            rlimits=tuple((line[1], int(line[2])) for line in words if line[0] == "rlimit"),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise NotRunning("its entry file is damaged") from error


def read_facts(run: str) -> Facts:
    if lock_holder(run) == 0:
        raise NotRunning("its keeper is gone")
    return read_entry(run)


def read_entry(run: str) -> Facts:
    """What was written down, whoever lives still."""
    try:
        return parse(_read(os.path.join(run, ENTRY)).decode())
    except FileNotFoundError as error:
        raise NotRunning("it is still starting") from error


def open_doors(run: str) -> Doors:
    """Opens all that `enter` needs. Raises NotRunning or OSError."""
    facts = read_facts(run)
    try:
        pidfd = os.pidfd_open(facts.init)
        if start_time(facts.init) != facts.born:
            raise NotRunning("its first process is gone")
        namespaces = tuple(
            (os.open(f"/proc/{facts.init}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind)
            for name, kind in _KINDS
        )
        doors = Doors(
            owner=fcntl.ioctl(namespaces[0][0], linux.NS_GET_USERNS),
            namespaces=namespaces,
            inner=os.open(f"/proc/{facts.anchor}/ns/user", os.O_RDONLY | os.O_CLOEXEC),
            environment=_environment_of(facts.anchor),
            program=_read(os.path.join(run, FILTER)),
            cgroups=tuple(
                os.open(os.path.join(path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)
                for path in facts.cgroups
            ),
            rlimits=tuple((getattr(resource, name), value) for name, value in facts.rlimits),
        )
        if start_time(facts.anchor) != facts.anchor_born:
            raise NotRunning("its anchor is gone")
        signal.pidfd_send_signal(pidfd, 0)  # still the same processes: all of the above was the bottle's
        os.close(pidfd)
    except (ProcessLookupError, FileNotFoundError) as error:
        raise NotRunning("it has just ended") from error
    return doors


def _environment_of(pid: int) -> dict[bytes, bytes]:
    with open(f"/proc/{pid}/environ", "rb") as file:
        content = file.read(_MAX_ENVIRONMENT + 1)
    if len(content) > _MAX_ENVIRONMENT:
        raise NotRunning("its environment was tampered with")
    pairs = (item.partition(b"=") for item in content.split(b"\0"))
    found = {name: value for name, equals, value in pairs if equals}
    if not found:
        raise NotRunning("its environment cannot be read")
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
