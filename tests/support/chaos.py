"""Whatever is of one operator's world on this host, seen as what it is, and killed at random.

Invariant: only processes that are proved to belong to this world are killed, and never an engine's own.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.e2e import Cli
from tests.support.processes import all_processes, command_of, descendants

_NEVER = re.compile("docker(d|-proxy)?$|containerd|runc|pytest")
# Of a Python, the first whose words stand in its command line; a fork looks like what it was forked from.
_ROLES = (
    ("claude_bottle.backend.bubblewrap.enter ", "enterer"),
    ("claude_bottle.backend.bubblewrap.keeper ", "keeper, guard or helper"),
    ("claude_bottle.backend.remote.inside ", "inside"),
    ("claude_bottle.backend.docker.enter ", "docker enterer"),
    ("claude_bottle.sidecars.container ", "bundle"),
    ("claude_bottle.sidecars.", "handing"),
    ("claude_bottle.backend.probe ", "probe"),
    ("claude_bottle.cli import", "command"),
)
_NSFS = re.compile(r"net:\[\d+\]")
_SLICE = 0.1  # seconds between two looks


class Victim(NamedTuple):
    pid: int
    role: str


class Kill(NamedTuple):
    """What was done, for whoever reads why a test failed."""

    phase: str
    after: float
    role: str


def victims(cli: Cli) -> list[Victim]:
    """Who names this world, whoever descends from them, and what runs in its containers; nobody else.

    That a process sees a mount of this world proves nothing: any process of this host may, for a moment.
    """
    named = [pid for pid in all_processes() if pid != os.getpid() and cli.named_by(pid)]
    family = {pid for parent in named for pid in descendants(parent)}
    return [
        Victim(pid, role) for pid in family | contained(cli) if (role := role_of(pid)) and _may_be_ended(pid)
    ]


def contained(cli: Cli) -> set[int]:
    """By the control groups, which bear the numbers of the containers."""
    numbers = cli.container_ids()
    return {pid for pid in all_processes() if numbers and any(number in _group_of(pid) for number in numbers)}


def _group_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _may_be_ended(pid: int) -> bool:
    """By us, who may be an ordinary user."""
    try:
        return os.geteuid() in (0, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return False


def role_of(pid: int) -> str:
    """Empty for what is not to be killed."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    name = command_of(pid)
    if _NEVER.search(name) or not line:
        return ""
    roles = _ROLES if name.startswith(("python", "claude-bottle")) else ()
    return next((role for words, role in roles if words in line), name)


def kill_one(cli: Cli, chosen: random.Random) -> str:
    """A role at random, then one of those who play it: the rare ones get their turn. Empty: there was nobody."""
    there = victims(cli)
    if not there:
        return ""
    role = chosen.choice(sorted({victim.role for victim in there}))
    victim = chosen.choice([each for each in there if each.role == role])
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(victim.pid)
        try:
            if victim in victims(cli):  # now that it is held, still the same
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
    return role


class Chaos:
    """Kills as often as told, each time in a phase of its own choosing, a moment after that has begun."""

    def __init__(self, cli: Cli, chosen: random.Random, phases: dict[str, float]) -> None:
        """`phases` are as long as each takes when it is left alone."""
        self._cli = cli
        self._chosen = chosen
        names = chosen.choices(list(phases), k=chosen.choice((1, 1, 2)))
        self._due = {name: chosen.uniform(0, 1.2 * phases[name]) for name in names}
        self._threads: list[threading.Thread] = []
        self.kills: list[Kill] = []

    def phase(self, name: str) -> None:
        """It begins now."""
        if (after := self._due.pop(name, None)) is not None:
            thread = threading.Thread(target=self._kill, args=(name, after))
            thread.start()
            self._threads.append(thread)

    def _kill(self, phase: str, after: float) -> None:
        time.sleep(after)
        self.kills.append(Kill(phase, round(after, 3), kill_one(self._cli, self._chosen)))

    def end(self) -> None:
        for thread in self._threads:
            thread.join()


class Networks:
    """The network namespaces that the world's processes were seen in, and which of them somebody still keeps.

    They are held here, so that the kernel gives none of their numbers to another; that alone keeps nothing running.
    """

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._own = _network_of("self")
        self._before: set[int] = set()
        self._held: dict[str, int] = {}

    def look(self) -> None:
        there = {*self._cli.processes("")}
        lasting = there & self._before  # any process of this host may see a mount of this world for a moment
        self._before = there
        for pid in lasting:
            found = _network_of(pid)
            if found and found != self._own and found not in self._held:
                with suppress(OSError):
                    self._hold(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY))

    def _hold(self, descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")  # it may have changed since
        if name == self._own or name in self._held:
            os.close(descriptor)
        else:
            self._held[name] = descriptor

    def left(self) -> set[str]:
        """By a process, or by a mount of this host's."""
        kept = set(_NSFS.findall(Path("/proc/self/mountinfo").read_text(errors="replace")))
        kept |= {_network_of(name) for name in os.listdir("/proc") if name.isdigit()}
        return kept & self._held.keys()

    def close(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)


@contextmanager
def watched(cli: Cli) -> Iterator[Networks]:
    """Looks again and again, as long as it lasts."""
    networks, over = Networks(cli), threading.Event()

    def watch() -> None:
        while not over.wait(_SLICE):
            networks.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield networks
    finally:
        over.set()
        thread.join()
        networks.close()


def _network_of(pid: int | str) -> str:
    """Empty for a process that is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def mounts_of(cli: Cli) -> list[str]:
    """On this host, of this world."""
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return [line for line in lines if cli.agent in line or str(cli.root) in line]


def files_of(cli: Cli) -> list[str]:
    """What lies in the folders that bottles are in, and in the one for what is passing.

    The archive stays, and so does what an image was made of.
    """
    found = [path for top in (cli.state, cli.tmp) if top.is_dir() for path in top.iterdir()]
    return sorted(str(path.relative_to(cli.root)) for path in found if path.name != ".digests.json")
