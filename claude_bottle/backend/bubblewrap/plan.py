"""From a request and the host's facts to a frozen plan. Pure.

The bottle's root is a fresh tmpfs, made read-only at the end: the host's /usr, a small /etc, the granted
files. As root the bottle's programs are another host identity, one of its own for each bottle.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_bottle.backend.base import AUTHORITIES, BottleRequest, EnvoyFiles, Grant
from claude_bottle.backend.bubblewrap.argv import Mount, confined_arguments
from claude_bottle.backend.bubblewrap.cgroups import LimitPlan, plan_limits
from claude_bottle.backend.bubblewrap.host import SYMLINKS_FIXED, HostFacts
from claude_bottle.backend.bubblewrap.stage import STAGE, Source, Stage
from claude_bottle.sidecars.egress.envoy_start import ENVOY_CONFIG, envoy_argv

ENVOY_FOLDER, ENVOY_BINARY, ENVOY_AUTHORITIES = "/run/egress", "/opt/envoy", "/opt/authorities.pem"

_FIRST_UID = 0x70000000  # above what systemd gives to containers and services
_UIDS = 1 << 20  # so many for bottles, then as many for their Envoys
_SHM_BYTES = 512 << 20
_RUN_BYTES = 64 << 20
ETC_FILES = ("passwd", "group", "hosts", "resolv.conf", "nsswitch.conf")
_AUTHORITY_PATHS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
)


class EnvoyPlan(NamedTuple):
    """How Envoy is confined; `uid` is the host identity that it runs as, None for the operator's own."""

    bwrap: str
    system: tuple[Mount, ...]
    uid: int | None

    def command(self, files: EnvoyFiles) -> tuple[list[str], Stage]:
        """Envoy alone in its own namespaces, without network or files but its own, and how that is staged.

        Its folder is the working directory, which may be moved while Envoy comes up.
        """
        shown = (".", files.binary, files.authorities)
        stage = Stage(tuple(Source(path) for path in shown) if self.uid is not None else (), self.uid)
        folder, binary, authorities = (
            f"{STAGE}/{index}" if stage.needed else path for index, path in enumerate(shown)
        )
        mounts = (
            *self.system,
            Mount("bind", ENVOY_FOLDER, folder),
            Mount("ro-bind", ENVOY_BINARY, binary),
            Mount("ro-bind", ENVOY_AUTHORITIES, authorities),
            Mount("remount-ro", "/"),
        )
        inner = envoy_argv(ENVOY_BINARY, ENVOY_CONFIG)
        return [self.bwrap, *confined_arguments(mounts, ENVOY_FOLDER), *inner], stage


class BubblewrapPlan(NamedTuple):
    """All that a launch will do: mounts in order, what is staged, the limits, the host identity."""

    request: BottleRequest
    bwrap: str
    version: tuple[int, ...]
    machine: str
    mounts: tuple[Mount, ...]
    stage: Stage
    limits: LimitPlan
    envoy: EnvoyPlan

    @property
    def backend_name(self) -> str:
        return "bubblewrap"

    def protections(self) -> tuple[str, ...]:
        identity = f", host uid {self.stage.uid}" if self.stage.uid is not None else ""
        return (
            "namespaces: user, pid, mount, net, ipc, uts, cgroup; no network but the gate's socket",
            f"no capabilities, no new privileges, system call filter, read-only system{identity}",
            f"limits: {', '.join(self.limits.shown)}",
        )

    def caveats(self) -> tuple[str, ...]:
        found = ["one kernel with the host: a kernel exploit gets out (a microVM would hold it)"]
        if self.request.limits.memory is None:
            found.append("no memory limit: the manifest sets none")
        if self.version < SYMLINKS_FIXED:
            version = ".".join(map(str, self.version))
            found.append(
                f"bubblewrap {version} lacks the fix of CVE-2026-87766: mount points are checked instead"
            )
        return tuple(found)


def plan_envoy(facts: HostFacts, identity: int) -> EnvoyPlan:
    """`identity`, below 2**20, sets this Envoy's host uid apart where the operator is root."""
    assert facts.bwrap is not None
    return EnvoyPlan(facts.bwrap, _system(facts), _FIRST_UID + _UIDS + identity if facts.root else None)


def plan_bottle(request: BottleRequest, facts: HostFacts, identity: int) -> BubblewrapPlan:
    """`identity`, below 2**20, sets this bottle's host uid and its Envoy's apart; for root."""
    assert facts.bwrap is not None
    grants = _outer_first((*request.grants, *_own_grants(request)))
    staging = facts.root or any(grant.overlay for grant in grants)
    sources = tuple(
        Source(item.source, facts.root and item.owned_by_operator, item.overlay) for item in grants
    )
    granted = tuple(
        Mount(
            "bind" if item.writable else "ro-bind",
            item.target,
            f"{STAGE}/{index}" if staging else item.source,
        )
        for index, item in enumerate(grants)
    )
    return BubblewrapPlan(
        request=request._replace(grants=grants),
        bwrap=facts.bwrap,
        version=facts.version,
        machine=facts.machine,
        mounts=(
            *_system(facts),
            *_etc(facts),
            *_own(facts),
            *granted,
            Mount("remount-ro", "/dev"),
            Mount("remount-ro", "/"),
        ),
        stage=Stage(sources if staging else (), _FIRST_UID + identity if facts.root else None),
        limits=plan_limits(request.limits, request.slug, facts.cgroup_parents),
        envoy=plan_envoy(facts, identity),
    )


def _outer_first(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """What is mounted later covers what was mounted below it before."""
    return tuple(sorted(grants, key=lambda grant: grant.target.count("/")))


def _own_grants(request: BottleRequest) -> tuple[Grant, ...]:
    """What the backend itself writes for a bottle: a small /etc, and room for temporary files."""
    etc = tuple(Grant(str(request.paths.etc / name), f"/etc/{name}") for name in ETC_FILES)
    return (*etc, Grant(str(request.paths.tmp), "/tmp", writable=True))


def _system(facts: HostFacts) -> tuple[Mount, ...]:
    links = (
        Mount("symlink", f"/{name}", target) if target else Mount("ro-bind", f"/{name}", f"/{name}")
        for name, target in facts.root_links
    )
    return (Mount("ro-bind", "/usr", "/usr"), *links, Mount("proc", "/proc"), Mount("dev", "/dev"))


def _etc(facts: HostFacts) -> tuple[Mount, ...]:
    host = tuple(Mount("ro-bind", f"/etc/{name}", f"/etc/{name}") for name in facts.etc)
    return (*host, *(Mount("symlink", path, AUTHORITIES) for path in _AUTHORITY_PATHS))


def _own(facts: HostFacts) -> tuple[Mount, ...]:
    return (
        Mount("tmpfs", "/dev/shm", str(_SHM_BYTES)),
        *(Mount("ro-bind", f"/proc/{name}", "/dev/null") for name in facts.masked),
        Mount("ro-bind", "/proc/sys", "/proc/sys"),  # those of its own namespaces could be written else
        Mount("tmpfs", "/run", str(_RUN_BYTES)),
        Mount("dir", "/var"),
        Mount("symlink", "/var/tmp", "/tmp"),
        Mount("symlink", "/var/run", "/run"),
        Mount("dir", "/home"),
    )
