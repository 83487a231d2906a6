"""A Docker engine of a test's own, which may be killed, filled up and started again.

Invariant: it lives in namespaces of its own (network, mounts, processes), so no bridge, no packet filter and no file of
another engine is in its reach, and all that it ever started ends with the namespaces' first process, which ends with
the test.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.processes import alive, all_processes, descendants, parent_of

_PATIENCE = 60.0  # seconds for what takes two on a quiet machine
_SPACES = ("--net", "--mount", "--pid")
_MAKE = ("unshare", *_SPACES, "--fork", "--kill-child", "--mount-proc")
# The engine's own files of a running system are out of sight: sockets, locks, process numbers, settings, keys.
# So are their mounts: a copy that stays here would look as if a bottle of theirs still ran.
# Then the first process waits for the end of its input, and for whatever becomes its child.
_HOLD = """
ip link set lo up
while read -r _ _ _ _ point _; do
    case $point in /var/lib/docker/*|/var/lib/containerd/*|/run/docker/*) umount -l "$point" || true ;; esac
done </proc/self/mountinfo
mount -t tmpfs tmpfs /run
[ ! -d /etc/docker ] || mount -t tmpfs tmpfs /etc/docker
mount -t tmpfs -o "size=$2" tmpfs "$1"
exec 3<&0
cat <&3 >/dev/null &
echo ready
wait
"""


def why_no_engine() -> str:
    """What is lacking on this machine for an engine of a test's own; empty where nothing is."""
    if os.geteuid() != 0:
        return "not run by root"
    tools = ("dockerd", "containerd", "docker", "unshare", "nsenter", "ip", "mount")
    if lacking := [name for name in tools if shutil.which(name) is None]:
        return f"{', '.join(lacking)} not on the PATH"
    done = subprocess.run([*_MAKE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return "" if done.returncode == 0 else f"no namespaces to be had: {' '.join(words)}"


class Engine:
    """One engine. It can be ended and started as often as a test likes; what it stored stays."""

    def __init__(self, folder: Path, holder: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._holder = holder
        self._space = descendants(holder.pid)
        self._first = child_of(holder.pid)
        self._process: subprocess.Popen[bytes] | None = None
        self.live_restore = False  # of the last one that was started

    @property
    def host(self) -> str:
        """For $DOCKER_HOST."""
        return f"unix://{self._folder}/docker.sock"

    @property
    def group(self) -> str:
        """The control group above those of its containers."""
        return self._folder.name

    def docker(self, *arguments: str, check: bool = True) -> str:
        argv = ["docker", "--host", self.host, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
        return done.stdout

    # Life

    def start(self, *, live_restore: bool = False) -> None:
        """Returns when it answers."""
        assert self._process is None
        self.live_restore = live_restore
        settings = {
            "hosts": [self.host],
            "data-root": str(self._folder / "data"),
            "exec-root": "/run/docker",
            "pidfile": "/run/docker.pid",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self.group}",
            "live-restore": live_restore,
            "runtimes": _gvisor(),
        }
        (self._folder / "daemon.json").write_text(json.dumps(settings))
        argv = [*self._inside(*_SPACES), "dockerd", "--config-file", str(self._folder / "daemon.json")]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + _PATIENCE
        while not self._responds():
            assert self._process.poll() is None, f"the engine ended:\n{self.log}"
            assert time.monotonic() < deadline, f"the engine does not answer:\n{self.log}"
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> None:
        """The engine's own process alone; whether its containers outlive it is up to it."""
        assert self._process is not None
        os.kill(child_of(self._process.pid), number)
        self._process.wait(_PATIENCE)
        self._process = None

    def crash(self) -> None:
        """As if the power had failed: the engine, its helpers and every container, at once."""
        deadline = time.monotonic() + _PATIENCE
        while left := self._running():
            assert time.monotonic() < deadline, f"these do not end: {left}"
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_PATIENCE)
            self._process = None
        self._unmount()

    def _unmount(self) -> None:
        """What an engine that is killed leaves mounted on its disk, and one without power does not."""
        disk = f"{self._folder}/data/"
        lines = Path(f"/proc/{self._first}/mountinfo").read_text().splitlines()
        points = [point for line in lines if (point := line.split(" ")[4]).startswith(disk)]
        if points:
            argv = [*self._inside("--mount", "--pid"), "umount", *reversed(points)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    def programs(self) -> set[str]:
        """The names of all that runs in its namespaces."""
        return {name for pid in self._running() if (name := _name(pid))}

    def _running(self) -> dict[int, str]:
        """All that runs in its namespaces, but for what holds them."""
        found = descendants(self._holder.pid)
        outside = {*self._space}
        if self._process is not None:
            found |= descendants(self._process.pid)
            outside.add(self._process.pid)
        return alive({pid: born for pid, born in found.items() if pid not in outside})

    @property
    def runs(self) -> bool:
        return self._process is not None

    def _responds(self) -> bool:
        argv = ["docker", "--host", self.host, "version"]
        return subprocess.run(argv, capture_output=True, timeout=_PATIENCE, check=False).returncode == 0

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    # Disk

    def used(self) -> int:
        """Bytes that lie on its disk."""
        found = os.statvfs(f"/proc/{self._first}/root{self._folder}/data")
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def resize(self, size: int) -> None:
        """How many bytes its disk takes from now on; never fewer than lie there."""
        argv = [*self._inside("--mount"), "mount", "-o", f"remount,size={size}", str(self._folder / "data")]
        subprocess.run(argv, capture_output=True, check=True)

    def _inside(self, *spaces: str) -> list[str]:
        return ["nsenter", "--target", str(self._first), *spaces, "--"]


@contextmanager
def private_engine(size: int) -> Iterator[Engine]:
    """An engine that runs, with a disk of `size` bytes in memory. Call it only where `why_no_engine` is empty."""
    # Sockets have short paths, and pytest's own folders have long ones.
    folder = Path(tempfile.mkdtemp(prefix="claude-bottle-engine-")).resolve()
    try:
        (folder / "data").mkdir()
        argv = [*_MAKE, "sh", "-ec", _HOLD, "sh", str(folder / "data"), str(size)]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/") as holder:
            try:
                assert holder.stdout is not None
                assert holder.stderr is not None
                assert holder.stdout.readline() == b"ready\n", holder.stderr.read().decode()
                engine = Engine(folder, holder)
                try:
                    engine.start()
                    yield engine
                finally:
                    engine.crash()
            finally:
                _end(holder)
    finally:
        _remove_groups(folder.name)
        shutil.rmtree(folder)


def _end(holder: subprocess.Popen[bytes]) -> None:
    """Its child is the namespaces' first process, with which the kernel ends all the others."""
    assert holder.stdin is not None
    holder.stdin.close()
    try:
        holder.wait(_PATIENCE)
    finally:
        holder.kill()


def _gvisor() -> dict[str, object]:
    """Where this machine has it, as bottles need it."""
    path = shutil.which("runsc")
    return (
        {} if path is None else {"runsc": {"path": path, "runtimeArgs": ["--host-uds=open", "--oci-seccomp"]}}
    )


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def child_of(pid: int) -> int:
    (found,) = (child for child in all_processes() if parent_of(child) == pid)
    return found


def _remove_groups(name: str) -> None:
    for top in (*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")):
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)
