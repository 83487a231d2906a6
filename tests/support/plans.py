"""Requests and hosts for the pure parts of a backend: nothing here is on any machine."""

from __future__ import annotations

from pathlib import Path

from claude_bottle.backend.base import AUTHORITIES, CLAUDE, NODE_HOME, WORKSPACE, BottleRequest, Grant
from claude_bottle.backend.bubblewrap.host import HostFacts
from claude_bottle.manifest.model import Limits
from claude_bottle.policy.model import Policy, Route
from claude_bottle.state.paths import BottlePaths

STATE = "/srv/operator/.claude-bottle/state/reviewer-00000"
GIB = 1 << 30

DEBIAN = HostFacts(
    bwrap="/usr/bin/bwrap",
    version=(0, 8, 0),
    setuid=False,
    machine="x86_64",
    root=False,
    root_links=(("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")),
    etc=("alternatives", "ld.so.cache", "localtime"),
    masked=("kcore", "keys"),
    cgroup_parents=(),
    max_user_namespaces=15000,
)
ROOT = DEBIAN._replace(
    root=True,
    version=(0, 12, 0),
    cgroup_parents=(("memory", "/sys/fs/cgroup/memory"), ("pids", "/sys/fs/cgroup/pids")),
)


def request(*more: Grant, workspace: Grant | None = None, limits: Limits = Limits()) -> BottleRequest:
    return BottleRequest(
        slug="reviewer-00000",
        agent="reviewer",
        bottle="plain",
        paths=BottlePaths(Path(STATE)),
        grants=(
            Grant(f"{STATE}/home", NODE_HOME, writable=True),
            workspace or Grant(f"{STATE}/workspace", WORKSPACE, writable=True),
            Grant("/srv/claude/claude", CLAUDE),
            Grant(f"{STATE}/authorities.pem", AUTHORITIES),
            *more,
        ),
        environment=(("HOME", NODE_HOME), ("LANG", "C.UTF-8"), ("EMPTY", "")),
        limits=limits,
        policy=Policy((Route("api.example.org"),)),
        services=("egress", "firewall"),
    )


OVERLAY = Grant("/srv/project", WORKSPACE, writable=True, owned_by_operator=True, overlay=f"{STATE}/overlay")
BIND = Grant("/srv/project", WORKSPACE, writable=True, owned_by_operator=True)
