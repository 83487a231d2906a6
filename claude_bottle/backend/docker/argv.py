"""The command lines of this backend. Pure.

Invariant: no argument holds a secret. Nothing of the engine is given to a container: no socket, no privilege,
no capability, no name of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from claude_bottle.backend.base import GATE_PORT, NODE_HOME, WORKSPACE
from claude_bottle.backend.python import python_argv

LABEL = "io.claude-bottle"
LIFE_PORT = 9098
OPT = "/opt/claude-bottle"
KEEPER = "900:900"  # owns what the agent may read and not write; runs the first process
BUNDLE_FOLDER, BUNDLE_LOG = "/var/lib/claude-bottle/run", "/var/lib/claude-bottle/log"
HAND = f"{OPT}/hand"  # in both containers; only the keeper's group may enter it
GIVEN = "/run/claude-bottle"  # in the bottle: what was given to it, read-only to the agent
PRIVATE = f"{GIVEN}/private"  # variables that stand in no container's record
_TMPFS_BYTES = 64 << 20
_SHM_BYTES = 256 << 20


class Names(NamedTuple):
    """What a bottle's parts are called at the engine."""

    slug: str
    home_id: str  # of the operator's home of claude-bottle, so that two of them do not meet

    @property
    def agent(self) -> str:
        return f"claude-bottle-{self.slug}"

    @property
    def sidecars(self) -> str:
        return f"claude-bottle-sidecars-{self.slug}"

    @property
    def volume(self) -> str:
        return f"claude-bottle-{self.slug}"

    @property
    def work_volume(self) -> str:
        return f"claude-bottle-{self.slug}-workspace"

    @property
    def hand_volume(self) -> str:
        return f"claude-bottle-{self.slug}-hand"

    @property
    def volumes(self) -> tuple[str, ...]:
        return (self.volume, self.work_volume, self.hand_volume)

    def own(self, volume: str, target: str) -> list[str]:
        """A named volume, which outlives its container."""
        marks = {"home": self.home_id, "slug": self.slug}
        labels = [f"volume-label={LABEL}.{name}={value}" for name, value in marks.items()]
        return ["--mount", ",".join(["type=volume", f"src={volume}", f"dst={target}", *labels])]

    def labels(self, role: str) -> list[str]:
        """Ours, and those by which Compose, Desktop and others group containers."""
        found = {
            f"{LABEL}.home": self.home_id,
            f"{LABEL}.slug": self.slug,
            f"{LABEL}.role": role,
            "com.docker.compose.project": self.agent,
            "com.docker.compose.service": role,
            "com.docker.compose.container-number": "1",
            "com.docker.compose.oneoff": "False",
        }
        return [word for name, value in found.items() for word in ("--label", f"{name}={value}")]


class Share(NamedTuple):
    """A host folder or file shown in a container."""

    source: str
    target: str
    writable: bool = False

    def words(self) -> list[str]:
        fields = ["type=bind", f"src={self.source}", f"dst={self.target}"]
        fields += [] if self.writable else ["readonly"]
        return ["--mount", ",".join(map(_csv, fields))]


def _csv(field: str) -> str:
    """A field of the engine's comma-separated mounts (RFC 4180)."""
    quoted = field.replace('"', '""')
    return f'"{quoted}"' if any(char in field for char in ',"\n') else field


_HARD = (
    *("--init", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--cgroupns", "private", "--ipc", "private", "--pull", "never", "--restart", "no"),
    *("--log-driver", "json-file", "--log-opt", "max-size=1m", "--stop-timeout", "1"),
)


def run_agent(
    names: Names,
    image: str,
    seccomp: str,
    limits: Iterable[str],
    shares: Iterable[Share],
    volumes: Iterable[str],
    environment: Iterable[tuple[str, str]],
    wall_time: int | None,
) -> list[str]:
    """The bottle itself: no network, and a first process that ends with the bundle."""
    shared = list(shares)
    own_workspace = WORKSPACE not in (share.target for share in shared)
    argv = ["docker", "run", "--interactive", "--name", names.agent, *names.labels("agent"), *_HARD]
    argv += ["--network", "none", "--dns", "127.0.0.1", "--hostname", "bottle", "--user", KEEPER]
    argv += ["--security-opt", f"seccomp={seccomp}", "--shm-size", str(_SHM_BYTES), *limits]
    argv += ["--sysctl", "net.ipv4.ping_group_range=1 0", "--tmpfs", "/sys:ro,size=4k,mode=555"]
    argv += ["--tmpfs", f"/run:size={_TMPFS_BYTES},mode=755"]
    argv += ["--tmpfs", f"{GIVEN}:size={_TMPFS_BYTES},mode=755,uid=900,gid=900"]
    argv += [*names.own(names.volume, NODE_HOME), "--mount", "type=volume,dst=/tmp"]
    # A place of its own in any case: who can rename it decides where programs start.
    argv += names.own(names.work_volume, WORKSPACE) if own_workspace else []
    for share in shared:
        argv += share.words()
    for target in volumes:
        argv += ["--mount", f"type=volume,dst={target}"]
    for name, value in environment:
        argv += ["--env", f"{name}={value}"]
    argv += names.own(names.hand_volume, HAND)
    handing = _python("sidecars.handing", HAND, str(GATE_PORT), str(LIFE_PORT))
    return [*argv, image, f"{OPT}/bin/anchor", str(LIFE_PORT), str(wall_time or 0), *handing]


def run_sidecars(
    names: Names, image: str, user: str, network: str, shares: Iterable[Share], no_proxies: Iterable[str]
) -> list[str]:
    argv = ["docker", "run", "--interactive", "--name", names.sidecars, *names.labels("sidecars"), *_HARD]
    argv += ["--network", network, "--user", user, "--memory", "512m", "--pids-limit", "128"]
    argv += names.own(names.hand_volume, HAND)
    for share in shares:
        argv += share.words()
    for name in no_proxies:
        argv += ["--env", f"{name}="]
    inner = [f"{OPT}/bin/envoy", f"{OPT}/envoy.bpf"]
    return [*argv, image, *_python("sidecars.container", BUNDLE_FOLDER, BUNDLE_LOG, HAND, *inner)]


def _python(module: str, *arguments: str) -> list[str]:
    return python_argv(module, f"{OPT}/lib", *arguments, interpreter="/usr/bin/python3")


def enter(
    container: str, argv: Iterable[str], variables: Iterable[tuple[str, str]], *, tty: bool, directory: str
) -> list[str]:
    """The framing that enters the bottle, then the inner command. `variables` are the program's."""
    framing = ["docker", "exec", "--interactive", "--user", "node", container]
    options = ["-t"] if tty else []
    inner = [*options, "-w", directory, "-e", PRIVATE]
    for name, value in variables:
        inner += ["-v", f"{name}={value}"]
    return [*framing, *_python("backend.remote.inside", *inner, "--", *argv)]


def as_user(container: str, user: str, *argv: str) -> list[str]:
    return ["docker", "exec", "--interactive", "--user", user, container, *argv]
