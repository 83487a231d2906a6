"""Prepares what bubblewrap by itself cannot: overlays, and sources that the bottle's user may not search.

Theory. bubblewrap resolves its sources as the user that starts it. Where the operator is root that user is
not root but an identity of the bottle's own (root outside a user namespace owns device nodes and sysctls
even without capabilities), which cannot search root's folders. So the sources are cloned first, as detached
mounts, put on a small tmpfs in a private mount namespace, and only then are the privileges given up.
The same place holds overlays, which bubblewrap before 0.11 cannot make.

Invariant: `enter_stage` either leaves the process staged and without privilege, or raises.

A sidecar waits for this module to load, so it does without `typing` and `dataclasses`.
"""

from __future__ import annotations

import os
import sys
from collections import namedtuple

from claude_bottle.backend import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

STAGE = "/mnt"


class Source(namedtuple("Source", "path owned_by_operator upper", defaults=(False, None))):
    """One host path to stage at `STAGE/<index>`. With `upper`, as an overlay whose writes go below it."""

    __slots__ = ()
    path: str
    owned_by_operator: bool  # shown inside as the bottle user's own, whoever owns it outside
    upper: str | None  # a folder with "upper" and "work"


class Stage(namedtuple("Stage", "sources uid", defaults=((), None))):
    """What to stage; `uid` is the host identity to become, None for the present one."""

    __slots__ = ()
    sources: tuple[Source, ...]
    uid: int | None

    @property
    def needed(self) -> bool:
        return self.uid is not None or any(source.upper for source in self.sources)


def to_json(stage: Stage) -> dict[str, Any]:
    return {"sources": [list(source) for source in stage.sources], "uid": stage.uid}


def from_json(obj: dict[str, Any]) -> Stage:
    return Stage(tuple(Source(*source) for source in obj["sources"]), obj["uid"])


def start(arguments: list[str]) -> NoReturn:
    """As a program: stages what the first argument says, then becomes the others."""
    import json

    parent = os.getppid()
    enter_stage(from_json(json.loads(arguments[0])))
    linux.die_with_parent()  # the kernel forgets it when the identity changes
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(arguments[1], arguments[1:])


def enter_stage(stage: Stage) -> None:
    """Stages the sources and becomes the bottle's host identity. Raises OSError."""
    if not stage.needed:
        return
    if stage.uid is None:
        _own_user_namespace()
    else:
        linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    trees = [_clone(source, stage.uid) for source in stage.sources]
    uppers = [linux.clone_mount(source.upper) if source.upper else -1 for source in stage.sources]
    linux.mount("tmpfs", STAGE, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=1m")
    for index, (tree, upper) in enumerate(zip(trees, uppers, strict=True)):
        target = f"{STAGE}/{index}"
        if upper >= 0:
            _attach_overlay(tree, upper, target, own_namespace=stage.uid is None)
        else:
            _attach(tree, target)
    if stage.uid is not None:
        os.setgroups([])
        os.setresgid(stage.uid, stage.uid, stage.uid)
        os.setresuid(stage.uid, stage.uid, stage.uid)


def _own_user_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _clone(source: Source, uid: int | None) -> int:
    tree = linux.clone_mount(source.path)
    if uid is not None and source.owned_by_operator:
        userns = _namespace_mapping(os.stat(source.path), uid)
        linux.idmap_mount(tree, userns)
        os.close(userns)
    return tree


def _namespace_mapping(owner: os.stat_result, uid: int) -> int:
    """A user namespace in which the owner's files are those of `uid`: for an idmapped mount."""
    ready_out, ready_in = os.pipe()
    hold_out, hold_in = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hold_in)
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(ready_in, b"r")
            os.read(hold_out, 1)
        finally:
            os._exit(0)
    os.close(ready_in)
    try:
        if os.read(ready_out, 1) != b"r":
            raise OSError("no user namespace for the workspace")
        for name, identity in (("uid_map", owner.st_uid), ("gid_map", owner.st_gid)):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"{identity} {uid} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready_out, hold_out, hold_in):
            os.close(descriptor)
        os.waitpid(child, 0)


def _attach(tree: int, target: str) -> None:
    if os.path.isdir(f"/proc/self/fd/{tree}"):
        os.mkdir(target, 0o755)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    linux.attach_mount(tree, target)
    os.close(tree)


def _attach_overlay(lower: int, upper: int, target: str, own_namespace: bool) -> None:
    """The parts get short names first, since an overlay's options cannot carry every path."""
    _attach(lower, f"{target}.lower")
    _attach(upper, f"{target}.upper")
    os.mkdir(target, 0o755)
    options = f"lowerdir={target}.lower,upperdir={target}.upper/upper,workdir={target}.upper/work"
    linux.mount(
        "overlay", target, "overlay", linux.MS_NODEV, options + (",userxattr" if own_namespace else "")
    )
