"""What the host's git says of a folder. Only git's own answers; nothing here changes a repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from claude_bottle.errors import BottleError, UsageError
from claude_bottle.proc import Command, Result, Runner, checked


class Repository(NamedTuple):
    """A work tree on the host. `head` is empty before the first commit, `branch` when HEAD is detached."""

    top: Path
    git_dir: Path
    common_dir: Path
    objects: tuple[Path, ...]  # its own object store, then the ones it borrows from
    head: str
    branch: str
    object_format: str
    shallow: bool
    dirty: bool
    submodules: bool
    origin: str  # the URL of remote "origin" without credentials, or ""

    @property
    def linked(self) -> bool:
        """A `git worktree`: its git folder lies elsewhere."""
        return self.git_dir != self.common_dir or not (self.top / ".git").is_dir()


def git(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    stdin_file: tuple[str, int] | None = None,
    environment: tuple[tuple[str, str], ...] = (),
) -> Command:
    """git as the operator would run it there, but never waiting for an answer."""
    fixed = (("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0"))
    return Command(
        ("git", "-C", str(folder), *arguments),
        stdin=stdin,
        stdin_file=stdin_file,
        environment=(*fixed, *environment),
        timeout=600,
    )


def observe_repository(runner: Runner, folder: Path) -> Repository | None:
    """None where the folder is in no work tree. Raises BottleError where git refuses to say."""
    questions = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir", "--show-object-format")
    if "\n" in str(folder):
        raise UsageError("a folder whose path has a line break cannot be a workspace", "rename it")
    found = runner.run(
        git(folder, "rev-parse", "--path-format=absolute", *questions, "--is-shallow-repository")
    )
    if found.status != 0:
        if b"not a git repository" in found.stderr or b"must be run in a work tree" in found.stderr:
            return None
        raise BottleError(f"git cannot read {folder}: {found.complaint}", _hint(found))
    top, git_dir, common, object_format, shallow = (
        found.stdout.decode(errors="surrogateescape").strip("\n").split("\n")
    )
    status = checked(
        runner, git(folder, "status", "--porcelain=v2", "--branch", "-z"), f"git cannot look at {folder}"
    )
    head, branch, dirty = _parse_status(status.stdout.decode(errors="surrogateescape"))
    origin = runner.run(git(folder, "config", "--get", "remote.origin.url"))
    return Repository(
        top=Path(top),
        git_dir=Path(git_dir),
        common_dir=Path(common),
        objects=tuple(_object_stores(Path(common) / "objects")),
        head=head,
        branch=branch,
        object_format=object_format,
        shallow=shallow == "true",
        dirty=dirty,
        submodules=(Path(top) / ".gitmodules").exists(),
        origin=without_credentials(origin.text.strip()),
    )


def _parse_status(text: str) -> tuple[str, str, bool]:
    """(commit, branch, whether anything is uncommitted), from git-status(1)'s porcelain format 2."""
    facts = dict(line[2:].split(" ", 1) for line in text.split("\0") if line.startswith("# branch."))
    commit, branch = facts.get("branch.oid", ""), facts.get("branch.head", "")
    changed = any(line and not line.startswith("# ") for line in text.split("\0"))
    return "" if commit == "(initial)" else commit, "" if branch == "(detached)" else branch, changed


def without_credentials(url: str) -> str:
    """The URL without user and password; what cannot be taken apart safely becomes empty."""
    if "://" not in url:
        return "" if "@" in url.partition("/")[0] and ":" in url.partition("@")[0] else url
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if not parts.netloc and parts.scheme != "file":  # such as helper::https://user:password@host
        return ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _object_stores(store: Path, depth: int = 0) -> list[Path]:
    """gitrepository-layout(5): objects/info/alternates, followed as git itself does, at most 5 deep."""
    if depth > 5:
        raise BottleError(f"the alternates of {store} are nested too deep")
    found = [store.resolve()]
    try:
        lines = (store / "info" / "alternates").read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        if line and not line.startswith("#"):
            for item in _object_stores(Path(os.path.join(store, line)), depth + 1):
                if item not in found:
                    found.append(item)
    return found


def _hint(found: Result) -> str | None:
    if b"dubious ownership" in found.stderr:
        return "the folder belongs to another user: git config --global --add safe.directory <folder>"
    return None
