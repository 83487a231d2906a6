"""What a launch on an engine will do, worked out from the request and what was seen. Pure but for file modes.

Invariant: what cannot be had on this engine is refused here, by name; never replaced by something weaker.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import (
    AUTHORITIES,
    CLAUDE,
    NODE_HOME,
    BottleRequest,
    Grant,
)
from claude_bottle.backend.docker import bodies, gvisor
from claude_bottle.backend.docker.bodies import BUNDLE_FOLDER, BUNDLE_LOG, SESSIONS, Body, Names, Share
from claude_bottle.backend.docker.engine import EngineFacts
from claude_bottle.backend.docker.files import Tree
from claude_bottle.errors import UsageError
from claude_bottle.policy.model import Policy
from claude_bottle.sidecars.services import SUPERVISE

# An image may bring proxies of its own; here they are ours or none.
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
PROXY_NAMES = (*_PROXIES, *(name.lower() for name in _PROXIES))
_KEEPER_UID = 900
_PROCESSES = 4096


class DockerPlan(NamedTuple):
    request: BottleRequest
    facts: EngineFacts
    names: Names
    agent_image: str
    bundle_image: str
    missing: tuple[str, ...]  # images that are built first
    uid: int  # of the bottle's user
    bundle_uid: int
    network: str  # the bundle's
    shares: tuple[Share, ...]
    copies: tuple[Grant, ...]  # read-only in the bottle, and not to be had by showing
    sessions: Share | None  # where Claude Code says what it does

    @property
    def backend_name(self) -> str:
        return "docker"

    def protections(self) -> tuple[str, ...]:
        limits = self.request.limits
        shown = [
            f"{limits.pids or _PROCESSES} processes" if self.facts.limits else "none, the engine has none"
        ]
        shown += [f"{limits.memory >> 20} MiB"] if limits.memory else []
        shown += [f"{limits.cpus:g} processors"] if limits.cpus else []
        kernel = ("gVisor: a kernel of its own, before the engine's",) if self.ferried else ()
        return (
            *kernel,
            "container without network; no capabilities, no new privileges, system call filter",
            "read-only system; its loopback is the sidecars' container, which has its own user",
            f"limits: {', '.join(shown)}",
        )

    def caveats(self) -> tuple[str, ...]:
        engine = f"engine {self.facts.version} at {self.facts.endpoint}"
        notes = [f"{engine}: who may use it may read all of the bottle, and of its sidecars' memory"]
        if self.ferried:
            notes.append(
                "slow files and processes; what reaches a limit of memory or processes ends all of the bottle"
            )
        else:
            notes.append(
                "one kernel with the engine's host: a kernel exploit gets out (a microVM would hold it)"
            )
        notes += [f"the image {tag} is built first" for tag in self.missing]
        if self.network == "host":
            notes.append("a route leads to this host's loopback, so the sidecars share the host's network")
        if self.request.limits.disk:
            notes.append("no disk limit: the engine's volumes have none")
        return tuple(notes)

    @property
    def ferried(self) -> bool:
        """Whether a ferry inside takes the place of listeners that are handed over."""
        return self.request.runtime is not None

    @property
    def supervised(self) -> bool:
        return SUPERVISE in self.request.services

    def agent_body(self, filter_text: str) -> Body:
        ours = dict(self.request.environment)
        return bodies.agent(
            self.names,
            self.agent_image,
            filter_text,
            _limits(self.request, self.facts),
            self.shares if self.sessions is None else (*self.shares, self.sessions),
            (grant.target for grant in self.copies),
            (*((name, "") for name in PROXY_NAMES if name not in ours), *ours.items()),
            self.request.limits.wall_time,
            self.facts.release if self.ferried else None,
            self.supervised,
        )

    def sidecars_body(self) -> Body:
        paths = self.request.paths
        shares = (
            Share(str(paths.run / "egress"), BUNDLE_FOLDER, writable=True),
            Share(str(paths.logs), BUNDLE_LOG, writable=True),
        )
        user = f"{self.bundle_uid}:{_KEEPER_UID}"
        own = shares if self.facts.local else ()
        no_proxies = ((name, "") for name in PROXY_NAMES)
        return bodies.sidecars(self.names, self.bundle_image, user, self.network, own, no_proxies)

    def trees(self) -> list[Tree]:
        """The folders that become the bottle's own; below its home, as they are named there."""
        written = [grant for grant in self.request.grants if grant.writable and not grant.owned_by_operator]
        return [Tree(Path(grant.source), os.path.relpath(grant.target, NODE_HOME)) for grant in written]


def plan_bottle(
    request: BottleRequest,
    facts: EngineFacts,
    names: Names,
    images: tuple[str, str],
    missing: tuple[str, ...],
    operator: int,
) -> DockerPlan:
    """Raises UsageError for what this engine cannot do."""
    limits = request.limits
    if not facts.limits and (limits.memory or limits.pids or limits.cpus):
        raise UsageError("the engine cannot limit memory, processes and processors", "remove the limits")
    if request.runtime is not None and (fault := gvisor.lacking(facts.gvisor, facts.release)):
        raise UsageError(fault, gvisor.HINT)
    uid = operator or 1000
    shares, copies = [], []
    for grant in request.grants:
        if grant.target in (CLAUDE, AUTHORITIES) or (grant.writable and not grant.owned_by_operator):
            continue
        if grant.owned_by_operator:
            shares.append(_bound(grant, facts, uid))
        elif facts.local and _is_text(grant.source) and _readable(grant.source, uid):
            shares.append(Share(grant.source, grant.target))
        else:
            copies.append(grant)
    return DockerPlan(
        request=request,
        facts=facts,
        names=names,
        agent_image=images[0],
        bundle_image=images[1],
        missing=missing,
        uid=uid,
        bundle_uid=(operator or _KEEPER_UID) if facts.local else _KEEPER_UID,
        network=_network(request.policy, facts),
        shares=tuple(shares),
        copies=tuple(copies),
        sessions=_sessions(request, facts),
    )


def _sessions(request: BottleRequest, facts: EngineFacts) -> Share | None:
    """A folder of the host for what Claude Code says of itself, so that `list` has only files to read.

    Not where Claude Code looks for it: a place in the bottle's home is the agent's to move, and a mount on a
    bottle's next start would follow a link from there to wherever the agent chose.
    """
    folder = str(request.paths.sessions)
    return Share(folder, SESSIONS, writable=True) if facts.local and _is_text(folder) else None


def _bound(grant: Grant, facts: EngineFacts, uid: int) -> Share:
    mode = "overlay" if grant.overlay else "bind"
    if grant.overlay or not facts.local or not _is_text(grant.source):
        where = "here" if facts.local else "with an engine that does not see this host's files"
        raise UsageError(f"the backend docker cannot make {mode} workspaces {where}", "use clone or copy")
    if os.stat(grant.source).st_uid != uid:
        raise UsageError(
            f"the backend docker cannot bind {grant.source}: it does not belong to user {uid}, as whom"
            " the bottle's programs run",
            "use clone or copy",
        )
    return Share(grant.source, grant.target, writable=True)


def _is_text(path: str) -> bool:
    """Neither JSON, in which engines keep their records, nor the table of a mount has other names."""
    return "\r\n" not in path and not any("\ud800" <= char <= "\udfff" for char in path)


def _readable(path: str, uid: int) -> bool:
    """Whether the bottle's user may read what is there, by the mode of its top."""
    found = os.stat(path)
    return found.st_uid == uid or found.st_mode & stat.S_IROTH != 0


def _network(policy: Policy, facts: EngineFacts) -> str:
    """The operator's own services on this host are reached only from the host's network."""
    local = [
        route.upstream for route in policy.routes if route.upstream and _is_loopback(route.upstream.host)
    ]
    if local and not facts.local:
        raise UsageError(
            f"{local[0]} is this host's loopback, and the engine is elsewhere",
            "name the host as the engine can reach it, such as host.docker.internal",
        )
    return "host" if local else "bridge"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _limits(request: BottleRequest, facts: EngineFacts) -> dict[str, int]:
    limits = request.limits
    if not facts.limits:
        return {}
    found = {"PidsLimit": limits.pids or _PROCESSES}
    found |= {"Memory": limits.memory, "MemorySwap": limits.memory} if limits.memory else {}
    return found | ({"NanoCpus": round(limits.cpus * 10**9)} if limits.cpus else {})
