"""The command lines of this backend. Pure.

Invariant: no argument holds a secret, and no mount point lies below a folder that a bottle can write, except
where that mount point is a real folder already (`check_mount_points`): a bubblewrap before 0.12 follows
symbolic links there onto the host (CVE-2026-87766).
"""

from __future__ import annotations

from typing import NamedTuple

from claude_bottle.backend.python import python_argv

_NAMESPACES = ("user", "ipc", "pid", "net", "uts", "cgroup")


class Mount(NamedTuple):
    """One step of building the bottle's file system, in order.

    kind: bind, ro-bind, tmpfs (source: bytes), dir, symlink (source: its text), proc, dev, remount-ro.
    """

    kind: str
    target: str
    source: str = ""


def bwrap_arguments(
    mounts: tuple[Mount, ...], hostname: str, environment: tuple[tuple[str, str], ...]
) -> list[str]:
    """bubblewrap's options; they go through a descriptor, since values may be private."""
    arguments = [f"--unshare-{name}" for name in _NAMESPACES]
    arguments += ["--disable-userns", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]
    arguments += ["--die-with-parent", "--new-session", "--hostname", hostname]
    for mount in mounts:
        arguments += _mount_arguments(mount)
    arguments.append("--clearenv")
    for name, value in environment:
        arguments += ["--setenv", name, value]
    return [*arguments, "--chdir", "/home/node"]


def confined_arguments(mounts: tuple[Mount, ...], directory: str) -> list[str]:
    """bubblewrap's options for a sidecar: nothing of the host, and no network of any kind."""
    arguments = [f"--unshare-{name}" for name in _NAMESPACES]
    arguments += ["--disable-userns", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
    for mount in mounts:
        arguments += _mount_arguments(mount)
    return [*arguments, "--chdir", directory]


def _mount_arguments(mount: Mount) -> list[str]:
    if mount.kind == "tmpfs":
        return ["--size", mount.source, "--tmpfs", mount.target]
    if mount.source:
        return [f"--{mount.kind}", mount.source, mount.target]
    return [f"--{mount.kind}", mount.target]


def enter_argv(package_root: str, run: str, argv: list[str], *, tty: bool, directory: str) -> list[str]:
    """The framing that enters the bottle, then the inner command."""
    options = ["-t"] if tty else []
    return python_argv("backend.bubblewrap.enter", package_root, run, *options, "-w", directory, "--", *argv)


def staged_argv(package_root: str, stage: str, argv: list[str]) -> list[str]:
    """Runs `argv` after staging; `stage` is the JSON of `stage.to_json`."""
    return python_argv("backend.bubblewrap.stage", package_root, stage, *argv)
