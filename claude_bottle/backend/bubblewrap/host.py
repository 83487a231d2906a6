"""What this host offers to bubblewrap: observed once, then judged by pure code.

Invariant: what cannot be seen is not there; nothing here starts a bottle.
"""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

from claude_bottle.backend.base import Readiness
from claude_bottle.proc import Command, Runner, find_program

MINIMUM = (0, 8, 0)  # the first with --disable-userns
SYMLINKS_FIXED = (0, 12, 0)  # CVE-2026-87766
_ROOT_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "alternatives",
    "bash.bashrc",
    "debian_version",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "magic",
    "mime.types",
    "os-release",
    "perl",
    "profile",
    "protocols",
    "python3",
    "python3.11",
    "services",
    "ssl/openssl.cnf",
    "terminfo",
)
_CONTROLLERS: tuple[str, ...] = ("memory", "pids", "cpu")
_MASKED = (
    "kcore",
    "keys",
    "key-users",
    "latency_stats",
    "timer_list",
    "sched_debug",
    "kpagecount",
    "kpageflags",
)


class HostFacts(NamedTuple):
    """The host as bubblewrap and the plan see it."""

    bwrap: str | None
    version: tuple[int, ...]
    setuid: bool
    machine: str
    root: bool
    root_links: tuple[tuple[str, str], ...]  # ("bin", "usr/bin"), or ("bin", "") for a real folder
    etc: tuple[str, ...]
    masked: tuple[str, ...]
    cgroup_parents: tuple[tuple[str, str], ...]  # (controller, folder to make a group in)
    max_user_namespaces: int


def observe(runner: Runner) -> HostFacts:
    bwrap = find_program("bwrap")
    version: tuple[int, ...] = ()
    if bwrap:
        version = parse_version(runner.run(Command((bwrap, "--version"), timeout=10)).text)
    return HostFacts(
        bwrap=bwrap,
        version=version,
        setuid=bool(bwrap) and bool(os.stat(str(bwrap)).st_mode & stat.S_ISUID),
        machine=os.uname().machine,
        root=os.geteuid() == 0,
        root_links=tuple(_root_links()),
        etc=tuple(name for name in _ETC if os.path.exists(f"/etc/{name}")),
        masked=tuple(name for name in _MASKED if os.path.exists(f"/proc/{name}")),
        cgroup_parents=tuple(_cgroup_parents(_text("/proc/self/cgroup"), _text("/proc/self/mounts"))),
        max_user_namespaces=int(_text("/proc/sys/user/max_user_namespaces") or "0"),
    )


def parse_version(text: str) -> tuple[int, ...]:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def judge(facts: HostFacts) -> Readiness:
    """Whether bottles may be made on such a host. A doubt is a no."""
    shown_version = ".".join(map(str, facts.version)) or "unknown"
    if facts.bwrap is None:
        return Readiness(False, "bubblewrap is not installed", "install it: sudo apt-get install bubblewrap")
    if facts.version < MINIMUM:
        return Readiness(
            False,
            f"bubblewrap {shown_version} cannot forbid nested user namespaces",
            "install bubblewrap 0.8.0 or newer, best 0.12.0 or newer",
        )
    if facts.setuid:
        return Readiness(
            False,
            f"{facts.bwrap} is setuid root, which has known holes (CVE-2026-41163)",
            f"remove the bit: sudo chmod u-s {facts.bwrap}",
        )
    if facts.machine not in ("x86_64", "aarch64"):
        return Readiness(
            False, f"there is no system call filter for {facts.machine}", "use an x86_64 or aarch64 host"
        )
    if facts.max_user_namespaces == 0:
        return Readiness(
            False,
            "the kernel forbids user namespaces",
            "allow them: sudo sysctl -w user.max_user_namespaces=15000",
        )
    return Readiness(True, facts=(("bubblewrap", f"{shown_version} ({facts.bwrap})"),))


def explain_failure(output: str) -> str:
    """The mend for a bubblewrap that would not start, from what it said and what the kernel is set to."""
    apparmor = _text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1"
    if apparmor:
        return (
            "AppArmor restricts user namespaces: install an AppArmor profile for bwrap, "
            "or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if _text("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0":
        return "allow user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if "namespace" in output or "uid map" in output or "permitted" in output:
        return (
            "this host or container forbids new user namespaces: run on the host itself, or allow them there"
        )
    return "see what it said: claude-bottle doctor --backend bubblewrap"


def _root_links() -> list[tuple[str, str]]:
    found = []
    for name in _ROOT_LINKS:
        path = f"/{name}"
        if os.path.islink(path):
            found.append((name, os.readlink(path)))
        elif os.path.isdir(path):
            found.append((name, ""))
    return found


def _cgroup_parents(own: str, mounts: str) -> list[tuple[str, str]]:
    """For each of memory, pids and cpu: a folder in which this process may make a group and move into it."""
    found = []
    groups = [line.split(":", 2) for line in own.splitlines()]
    for fields in (line.split() for line in mounts.splitlines()):
        where, kind, options = fields[1], fields[2], fields[3].split(",")
        if kind == "cgroup":
            for _, controllers, path in groups:
                for controller in _CONTROLLERS:
                    if controller in options and controller in controllers.split(","):
                        folder = where + path.rstrip("/")
                        if os.access(folder, os.W_OK):
                            found.append((controller, folder))
        elif kind == "cgroup2":
            path = next((path for number, _, path in groups if number == "0"), "")
            found += [(name, folder) for name, folder in _unified(where, path)]
    return found


def _unified(where: str, own: str) -> list[tuple[str, str]]:
    """cgroups(7): the nearest folder above our own that is ours and passes the controllers on."""
    folder = os.path.normpath(where + own)
    while folder.startswith(where) and os.access(os.path.join(folder, "cgroup.procs"), os.W_OK):
        passed = _text(os.path.join(folder, "cgroup.subtree_control")).split()
        if "memory" in passed and "pids" in passed:
            return [(name, folder) for name in _CONTROLLERS if name in passed]
        folder = os.path.dirname(folder)
    return []


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
