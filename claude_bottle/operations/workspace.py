"""The workspace of a bottle: how it is planned, made on the host, and finished inside.

Why a clone shares objects: `git clone --shared --no-checkout` takes about 10 ms whatever the size, as no
object is copied; the host's stores are shown inside read-only, and the files are written by git inside, as
the bottle's user. It is safe since nothing inside can write the host's store, and hard links, which git
would make by itself, would let it. The price: all of the store can be read inside, dropped commits and
stashes included; the preflight says so. Why an overlay is the quickest: the host's tree is mounted as it is
and only what is written takes room.

Invariant: host git never runs in a folder that an agent has written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import WORKSPACE, Bottle, Grant
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.operations.masks import hide_credentials, secret_files, whiteout
from claude_bottle.operations.repository import Repository, git
from claude_bottle.proc import Command, Runner, checked
from claude_bottle.state.paths import BottlePaths

OBJECTS = "/opt/claude-bottle/objects"
MODES = ("clone", "overlay", "copy", "bind", "none")


class WorkspacePlan(NamedTuple):
    """What the agent will see as `~/workspace`. `carry` takes uncommitted changes into a clone."""

    mode: str
    folder: Path  # what it is made from; for a repository its top
    repository: Repository | None
    slug: str
    carry: bool = False
    masked: tuple[str, ...] = ()  # files that an overlay hides

    @property
    def branch(self) -> str:
        has_git = self.repository is not None and self.mode in _FINISH
        return f"bottle/{self.slug}" if has_git else ""

    def notes(self) -> tuple[str, ...]:
        """What the operator should know before saying yes."""
        notes = []
        repository = self.repository
        if self.mode == "clone" and repository is not None:
            notes.append(
                "the repository's whole object store can be read inside, stashes and dropped commits included"
            )
            if repository.dirty and not self.carry:
                notes.append("uncommitted changes stay behind: --carry takes them along")
            if repository.submodules:
                notes.append("submodules are not cloned: their folders are empty inside")
        if self.mode == "overlay" and self.masked:
            notes.append(
                f"{len(self.masked)} ignored files that look secret are hidden: {', '.join(self.masked[:3])}"
            )
        if self.mode == "bind":
            notes.append(
                "bind: what it writes is on the host at once, .git/hooks and .git/config too, "
                "and sockets in the folder can be reached"
            )
        if self.mode == "none" and repository is None:
            notes.append(
                "the workspace is empty: this folder is no git repository (--workspace copy takes it along)"
            )
        return tuple(notes)


def choose_mode(asked: str | None, configured: str | None, repository: Repository | None) -> str:
    mode = asked or configured or ("clone" if repository is not None else "none")
    if mode not in MODES:
        raise UsageError(f"there is no workspace mode {mode!r}", f"known: {', '.join(MODES)}")
    if mode == "clone" and repository is None:
        raise UsageError(
            "a clone needs a git repository here", "use --workspace copy, overlay or none, or git init"
        )
    if mode in ("overlay", "copy") and repository is not None:
        if repository.linked:
            raise UsageError(
                f"a linked git worktree cannot be {mode!r}: its git folder is elsewhere", "use clone"
            )
        if len(repository.objects) > 1:
            raise UsageError(f"a repository that borrows objects of others cannot be {mode!r}", "use clone")
    return mode


def plan_workspace(
    runner: Runner, mode: str, folder: Path, repository: Repository | None, slug: str, carry: bool
) -> WorkspacePlan:
    top = repository.top if repository is not None else folder
    masked = secret_files(runner, top, repository) if mode == "overlay" else ()
    return WorkspacePlan(mode, top, repository, slug, carry, masked)


def grants(plan: WorkspacePlan, paths: BottlePaths) -> tuple[Grant, ...]:
    if plan.mode == "bind":
        return (Grant(str(plan.folder), WORKSPACE, writable=True, owned_by_operator=True),)
    if plan.mode == "overlay":
        return (Grant(str(plan.folder), WORKSPACE, True, owned_by_operator=True, overlay=str(paths.overlay)),)
    own = Grant(str(paths.workspace), WORKSPACE, writable=True)
    if plan.mode == "clone" and plan.repository is not None:
        stores = enumerate(plan.repository.objects)
        return (own, *(Grant(str(store), f"{OBJECTS}/{index}") for index, store in stores))
    return (own,)


def materialise(runner: Runner, plan: WorkspacePlan, paths: BottlePaths) -> None:
    """Makes the host's part, into the state folder only. Raises BottleError."""
    if plan.mode == "overlay":
        for name in ("upper", "work"):
            (paths.overlay / name).mkdir(parents=True, exist_ok=True)
        for name in plan.masked:
            whiteout(paths.overlay / "upper", plan.folder, name)
        if plan.repository is not None:
            hide_credentials(runner, plan.repository, paths.overlay / "upper")
        return
    if plan.mode == "bind":
        return
    paths.workspace.mkdir(mode=0o755, exist_ok=True)
    if plan.mode == "copy":
        source = f"{plan.folder}/."
        checked(
            runner,
            Command(("cp", "-a", "--reflink=auto", "--", source, str(paths.workspace)), timeout=3600),
            f"cannot copy {plan.folder}",
        )
    elif plan.mode == "clone":
        assert plan.repository is not None
        _clone(runner, plan, plan.repository, paths.workspace)


def _clone(runner: Runner, plan: WorkspacePlan, repository: Repository, target: Path) -> None:
    what = f"cannot clone {repository.top}"
    fixed = ("--quiet", "--template=", f"--object-format={repository.object_format}")
    checked(runner, git(target, "init", *fixed, "--initial-branch", plan.branch), what)
    dot_git = target / ".git"
    stores = (repository.common_dir / "objects",)
    alternates = dot_git / "objects" / "info" / "alternates"
    alternates.parent.mkdir(exist_ok=True)
    alternates.write_bytes(b"".join(os.fsencode(store) + b"\n" for store in stores))
    if repository.shallow:
        (dot_git / "shallow").write_bytes((repository.common_dir / "shallow").read_bytes())
    refs = checked(
        runner, git(repository.top, "for-each-ref", "--format=%(objectname) %(refname)"), what
    ).stdout
    checked(runner, git(target, "update-ref", "--stdin", stdin=_ref_updates(refs, repository.head)), what)
    if repository.origin:
        checked(runner, git(target, "config", "remote.origin.url", repository.origin), what)
        checked(
            runner, git(target, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"), what
        )
    if plan.carry and repository.dirty:
        _carry(runner, repository, target, what)
    inside = "".join(f"{OBJECTS}/{index}\n" for index in range(len(repository.objects)))
    alternates.write_text(inside)


def _ref_updates(refs: bytes, head: str) -> bytes:
    """Branches become origin's, tags stay tags; HEAD's commit is kept by a ref of our own."""
    lines = []
    for line in refs.splitlines():
        name, _, ref = line.partition(b" ")
        if ref.startswith(b"refs/heads/"):
            lines.append(b"create refs/remotes/origin/" + ref[len(b"refs/heads/") :] + b" " + name)
        elif ref.startswith(b"refs/tags/"):
            lines.append(b"create " + ref + b" " + name)
    if head:
        lines.append(b"create refs/claude-bottle/base " + head.encode())
    return b"".join(line + b"\n" for line in lines)


def _carry(runner: Runner, repository: Repository, target: Path, what: str) -> None:
    """A commit of the work tree as it is, what is not ignored included; its objects go into the clone."""
    environment = (
        ("GIT_INDEX_FILE", str(target / ".git" / "carry.index")),
        ("GIT_OBJECT_DIRECTORY", str(target / ".git" / "objects")),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(repository.common_dir / "objects")),
    )
    if repository.head:
        checked(runner, git(repository.top, "read-tree", "HEAD", environment=environment), what)
    checked(runner, git(repository.top, "add", "--all", ".", environment=environment), what)
    tree = checked(runner, git(repository.top, "write-tree", environment=environment), what).text.strip()
    (target / ".git" / "carry.index").unlink()
    checked(runner, git(target, "update-ref", "refs/claude-bottle/carried", tree), what)


# Inside; $1 is the branch, $2 the commit that it begins with, and $3 is set where a tree was carried along.
# A clone is on its branch already. Programs are few, since the operator waits for each.
_FINISH = {
    "clone": """
set -e
if [ -n "$2" ]; then git reset -q --hard "$2"; fi
if [ -n "$3" ]; then
    git read-tree -m -u ${2:+HEAD} refs/claude-bottle/carried
    if [ -n "$2" ]; then git reset -q; else git rm -r -q --cached .; fi
    git update-ref -d refs/claude-bottle/carried
fi
""",
    "overlay": 'git switch -q -c "$1" 2>/dev/null || git symbolic-ref HEAD "refs/heads/$1"',
    "copy": 'git switch -q -c "$1" 2>/dev/null || git symbolic-ref HEAD "refs/heads/$1"',
}


def finish_inside(bottle: Bottle, plan: WorkspacePlan) -> None:
    """What git has to do in the workspace is done inside, as the bottle's user. Raises BottleError."""
    script = _FINISH.get(plan.mode)
    repository = plan.repository
    if script is None or repository is None:
        return
    carried = "carried" if plan.carry and repository.dirty else ""
    done = bottle.exec(["sh", "-c", script, "sh", plan.branch, repository.head, carried], timeout=600)
    if done.status != 0:
        raise BottleError(f"git cannot fill the workspace: {done.complaint}")
