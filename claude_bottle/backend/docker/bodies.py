"""What is asked of the engine to make a bottle's two containers, and to run a program in one. Pure.

Invariant: nothing here holds a secret. Nothing of the engine is given to a container: no socket, no
privilege, no capability, no name of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from claude_bottle.backend.base import GATE_PORT, NODE_HOME, SUPERVISE_PORT, WORKSPACE
from claude_bottle.backend.docker import gvisor
from claude_bottle.backend.python import python_argv

Body = dict[str, Any]

LABEL = "io.claude-bottle"
LIFE_PORT = 9098
OPT = "/opt/claude-bottle"
USER = "node"  # the bottle's programs
OPERATOR = "0:0"  # in the sidecars' container: nothing that runs there for long is this user
KEEPER = "900:900"  # owns what the agent may read and not write; runs the first process
BUNDLE_FOLDER, BUNDLE_LOG = "/var/lib/claude-bottle/run", "/var/lib/claude-bottle/log"
FILTER = f"{OPT}/filter.bpf"  # the engine's own goes by name, and passes over names that it does not know
HAND = f"{OPT}/hand"  # in both containers; only the keeper's group may enter it
SESSIONS = f"{OPT}/sessions"  # what Claude Code says of itself
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
    def control(self) -> str:
        """Where the operator's process finds the bundle, in the network of the sidecars' container."""
        return f"claude-bottle-{self.home_id}-{self.slug}"

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

    @property
    def marks(self) -> dict[str, str]:
        """The labels by which what is ours is found again."""
        return {f"{LABEL}.home": self.home_id, f"{LABEL}.slug": self.slug}

    def own(self, volume: str, target: str) -> Body:
        """A named volume, which outlives its container."""
        return _volume(target, volume) | {"VolumeOptions": {"Labels": self.marks}}

    def labels(self, role: str) -> dict[str, str]:
        """Ours, and those by which Compose, Desktop and others group containers."""
        return self.marks | {
            f"{LABEL}.role": role,
            "com.docker.compose.project": self.agent,
            "com.docker.compose.service": role,
            "com.docker.compose.container-number": "1",
            "com.docker.compose.oneoff": "False",
        }


class Share(NamedTuple):
    """A host folder or file shown in a container."""

    source: str
    target: str
    writable: bool = False

    def mount(self) -> Body:
        return {
            "Type": "bind",
            "Source": self.source,
            "Target": self.target,
            "ReadOnly": not self.writable,
        }


def _volume(target: str, name: str = "") -> Body:
    return {"Type": "volume", "Source": name, "Target": target}


def agent(
    names: Names,
    image: str,
    filter_text: str,
    limits: dict[str, int],
    shares: Iterable[Share],
    volumes: Iterable[str],
    environment: Iterable[tuple[str, str]],
    wall_time: int | None,
    gvisor_on: str | None,
    supervised: bool,
) -> Body:
    """The bottle itself: no network, and a first process that ends with the bundle.

    `gvisor_on` asks for a kernel of its own: the release of the one that it shall not be.
    """
    shared = list(shares)
    mounts = [names.own(names.volume, NODE_HOME), _volume("/tmp")]  # noqa: S108 - a volume of its own
    # A place of its own in any case: who can rename it decides where programs start.
    if WORKSPACE not in (share.target for share in shared):
        mounts.append(names.own(names.work_volume, WORKSPACE))
    mounts += [share.mount() for share in shared]
    mounts += [_volume(target) for target in volumes]
    mounts.append(names.own(names.hand_volume, HAND))
    ports = (HAND, str(GATE_PORT), str(LIFE_PORT))
    more = (str(SUPERVISE_PORT),) if supervised else ()
    handing = _python("sidecars.handing", *ports, *more)
    kernel: Body = {}
    if gvisor_on is not None:
        handing = _python("sidecars.ferry", *ports, gvisor_on, *more)
        kernel = {"Runtime": gvisor.RUNTIME}
    command = [f"{OPT}/bin/anchor", str(LIFE_PORT), str(wall_time or 0), *handing]
    return _container(image, KEEPER, command, names.labels("agent"), environment) | {
        "Hostname": "bottle",
        "HostConfig": _HARD
        | limits
        | kernel
        | {
            "NetworkMode": "none",
            "Dns": ["127.0.0.1"],
            "SecurityOpt": ["no-new-privileges", f"seccomp={filter_text}"],
            "ShmSize": _SHM_BYTES,
            "Sysctls": {"net.ipv4.ping_group_range": "1 0"},
            "Tmpfs": {
                "/sys": "ro,size=4k,mode=555",
                "/run": f"size={_TMPFS_BYTES},mode=755",
                GIVEN: f"size={_TMPFS_BYTES},mode=755,uid=900,gid=900",
            },
            "Mounts": mounts,
        },
    }


def sidecars(
    names: Names,
    image: str,
    user: str,
    network: str,
    shares: Iterable[Share],
    environment: Iterable[tuple[str, str]],
) -> Body:
    inner = [f"{OPT}/bin/envoy", f"{OPT}/envoy.bpf"]
    command = _python("sidecars.container", BUNDLE_FOLDER, BUNDLE_LOG, HAND, *inner)
    return _container(image, user, command, names.labels("sidecars"), environment) | {
        "HostConfig": _HARD
        | {
            "NetworkMode": network,
            "SecurityOpt": ["no-new-privileges"],
            "Memory": 512 << 20,
            "PidsLimit": 128,
            "Mounts": [names.own(names.hand_volume, HAND), *(share.mount() for share in shares)],
        }
    }


def _container(
    image: str,
    user: str,
    command: list[str],
    labels: Mapping[str, str],
    environment: Iterable[tuple[str, str]],
) -> Body:
    """Its input is open until the first who is attached to it has gone."""
    return {
        "Image": image,
        "User": user,
        "Cmd": command,
        "Labels": dict(labels),
        "Env": [f"{name}={value}" for name, value in environment],
        "StopTimeout": 1,
        "OpenStdin": True,
        "StdinOnce": True,
        **_STREAMS,
    }


_STREAMS = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": False}
_HARD: Body = {
    "Init": True,
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "CgroupnsMode": "private",
    "IpcMode": "private",
    "RestartPolicy": {"Name": "no"},
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
}


def program(user: str, argv: Iterable[str]) -> Body:
    """A program that runs in a container, its streams carried by the engine."""
    return {"User": user, "Cmd": list(argv), **_STREAMS}


def inside(
    argv: Iterable[str], variables: Iterable[tuple[str, str]], *, tty: bool, directory: str
) -> list[str]:
    """What runs the inner command in the bottle. `variables` are the program's."""
    inner = ["-t"] if tty else []
    inner += ["-w", directory, "-s", FILTER, "-e", PRIVATE]
    for name, value in variables:
        inner += ["-v", f"{name}={value}"]
    return _python("backend.remote.inside", *inner, "--", *argv)


def probe() -> list[str]:
    """What runs the probe (see `backend.probe`) in the bottle, as any program of the agent would be run."""
    return inside(_python("backend.probe"), (), tty=False, directory="/")


def control(names: Names) -> list[str]:
    """What carries a question to the bundle, in the sidecars' container."""
    return _python("sidecars.control_client", names.control)


def _python(module: str, *arguments: str) -> list[str]:
    return python_argv(module, f"{OPT}/lib", *arguments, interpreter="/usr/bin/python3")
