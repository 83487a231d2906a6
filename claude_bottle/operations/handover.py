"""Bringing work back as data: a `git bundle` made inside, checked and taken over outside.

Invariant: host git reads a bundle and nothing else of what an agent made. Its objects and their links are
checked before they count (`index-pack --strict`; a fetch from a bundle checks nothing before git 2.46), no
hook runs, and what came lands below `refs/bottles/<slug>/` where nothing looks by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.operations.repository import git
from claude_bottle.proc import Runner, checked
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths
from claude_bottle.text import plural

MAX_BYTES = 4 << 30
_BUNDLE, _GLIMPSE = "work.bundle", "glimpse.bundle"
_MAX_REFS = 1000
_MAX_HEADER = 1 << 20
_INSIDE = "refs/claude-bottle/work/"  # what is on no branch: `uncommitted` and `detached`
_LEFT = 3  # the script's own exit status
_QUIET = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),
    *("-c", "submodule.recurse=false"),
)

# Inside; $1 is the commit that the host has already. What is not committed becomes a commit of its own. Where
# git cannot add all of it (a file that it may not read, a repository in the repository) each file is tried.
_MAKE = """
set -eu
work=refs/claude-bottle/work left=
git update-ref -d $work/uncommitted
git update-ref -d $work/detached
git symbolic-ref -q HEAD >/dev/null || git update-ref $work/detached HEAD
if [ -n "$(git status --porcelain | head -c 1)" ]; then
    index=$(git rev-parse --git-path claude-bottle.index)
    cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
    GIT_INDEX_FILE=$index git add --all . 2>/dev/null || {
        left=1
        git ls-files -z --others --modified --deleted --exclude-standard | grep -zv '/$' |
            GIT_INDEX_FILE=$index xargs -0r -n 1 git update-index --add --remove -- 2>/dev/null || :
    }
    tree=$(GIT_INDEX_FILE=$index git write-tree)
    rm -f "$index"
    parent=$(git rev-parse -q --verify HEAD || :)
    commit=$(git commit-tree ${parent:+-p "$parent"} -m "not committed in the bottle" "$tree")
    git update-ref $work/uncommitted "$commit"
fi
new=$(git rev-list --max-count=1 --branches --glob=$work ${1:+"^$1"})
[ -z "$new" ] || git bundle create --quiet - --branches --glob=$work ${1:+"^$1"}
[ -z "$left" ] || exit 3
"""


class Captured(NamedTuple):
    """A bundle in the state folder, or None where there is nothing to hand over, and what it lacks."""

    bundle: Path | None
    lacks: str = ""


class Work(NamedTuple):
    """What came back: (ref on the host, commit), the branch first. Empty when nothing was made."""

    refs: tuple[tuple[str, str], ...]
    lacks: str = ""  # what of the work stayed in the bottle's state

    @property
    def tip(self) -> str:
        """The ref that has everything: what was not committed included."""
        uncommitted = [ref for ref, _ in self.refs if ref.endswith("/uncommitted")]
        return (uncommitted or [ref for ref, _ in self.refs] or [""])[0]


def capture(bottle: Bottle, metadata: Metadata, paths: BottlePaths, *, last: bool = True) -> Captured:
    """Makes the bundle inside and keeps it in the state folder. Raises BottleError.

    Only the `last` one, after which the bottle ends, is what `captured` finds later.
    """
    if not metadata.branch:
        return Captured(None)
    paths.handover.mkdir(mode=0o700, exist_ok=True)
    done = bottle.exec(["sh", "-c", _MAKE, "sh", metadata.base], timeout=1800, limit=MAX_BYTES)
    if done.status not in (0, _LEFT):
        raise BottleError(f"git inside {metadata.slug} cannot bundle the work: {done.complaint}")
    lacks = f"git could not add all that is not committed in {metadata.slug}" if done.status == _LEFT else ""
    if not done.stdout:
        return Captured(None, lacks)
    target = paths.handover / (_BUNDLE if last else _GLIMPSE)
    temporary = target.with_suffix(".new")
    temporary.write_bytes(done.stdout)
    os.rename(temporary, target)
    return Captured(target, lacks)


def captured(paths: BottlePaths) -> Captured | None:
    """The work of a bottle that has ended, if it ended well."""
    found = paths.handover / _BUNDLE
    return Captured(found) if found.exists() else None


def forget(paths: BottlePaths) -> None:
    """The bottle goes on: what was captured is not the last of it any more."""
    (paths.handover / _BUNDLE).unlink(missing_ok=True)


def take(runner: Runner, captured: Captured, metadata: Metadata) -> Work:
    """Takes a bundle into the host repository. Raises BottleError; then no ref has changed."""
    if captured.bundle is None:
        return Work((), captured.lacks)
    repository = Path(metadata.origin)
    if not repository.is_dir():
        raise NotFoundError(f"the repository {repository} is gone", f"the work is kept in {captured.bundle}")
    what = f"the work of {metadata.slug} cannot be taken over"
    listed = checked(
        runner, git(repository, *_QUIET, "bundle", "list-heads", str(captured.bundle)), what
    ).text
    below = f"refs/bottles/{metadata.slug}/"
    wanted, refused = _wanted(listed, below)
    lacks = captured.lacks
    if refused:
        refused_text = f"{plural(refused, 'branch', 'branches')} with a name or a number that is not taken"
        lacks = f"{refused_text} stayed in {captured.bundle}"
    if wanted:
        _store(runner, repository, captured.bundle, what)
        _check_commits(runner, repository, wanted, what)
        _set_refs(runner, repository, below, wanted, what)
    return Work(_branch_first(wanted, metadata.branch), lacks)


def _wanted(listed: str, below: str) -> tuple[tuple[tuple[str, str], ...], int]:
    """((ref on the host, commit), ...), and how many of the bundle's refs are left in it."""
    pairs = []
    lines = listed.splitlines()
    for line in lines[:_MAX_REFS]:
        commit, _, ref = line.partition(" ")
        if ref in (f"{_INSIDE}uncommitted", f"{_INSIDE}detached"):
            pairs.append((below + ref.removeprefix(_INSIDE), commit))
        elif ref.startswith("refs/heads/") and _is_plain(ref):
            pairs.append((f"{below}heads/{ref.removeprefix('refs/heads/')}", commit))
    return tuple(pairs), len(lines) - len(pairs)


def _store(runner: Runner, repository: Path, bundle: Path, what: str) -> None:
    """gitformat-bundle(5): lines of text, an empty line, then a pack."""
    with open(bundle, "rb") as file:
        header, end, _ = file.read(_MAX_HEADER).partition(b"\n\n")
    if not end:
        raise BottleError(f"{what}: its bundle has no pack")
    pack = (str(bundle), len(header) + len(end))
    storing = git(repository, *_QUIET, "index-pack", "--stdin", "--fix-thin", "--strict", stdin_file=pack)
    checked(runner, storing, what)


def _check_commits(runner: Runner, repository: Path, wanted: Iterable[tuple[str, str]], what: str) -> None:
    objects = "".join(f"{commit}\n" for _, commit in wanted).encode()
    asking = git(repository, *_QUIET, "cat-file", "--batch-check=%(objecttype)", stdin=objects)
    if set(checked(runner, asking, what).text.splitlines()) != {"commit"}:
        raise BottleError(f"{what}: a branch of it is no commit")


def _set_refs(
    runner: Runner, repository: Path, below: str, wanted: tuple[tuple[str, str], ...], what: str
) -> None:
    """All of them or none. What was on no branch before and is not there now was committed, or given up."""
    names = {ref for ref, _ in wanted}
    gone = [f"{below}{name}" for name in ("uncommitted", "detached") if f"{below}{name}" not in names]
    lines = [f"update {ref} {commit}" for ref, commit in wanted] + [f"delete {ref}" for ref in gone]
    transaction = "".join(f"{line}\n" for line in ("start", *lines, "prepare", "commit")).encode()
    checked(runner, git(repository, *_QUIET, "update-ref", "--stdin", stdin=transaction), what)


def _is_plain(ref: str) -> bool:
    """Stricter than git: nothing that a refspec, a terminal or a file system could misread."""
    return len(ref) <= 200 and all(char.isascii() and (char.isalnum() or char in "-_./+=#@") for char in ref)


def _branch_first(refs: tuple[tuple[str, str], ...], branch: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(refs, key=lambda pair: (not pair[0].endswith(f"/heads/{branch}"), pair[0])))


def difference(runner: Runner, metadata: Metadata, work: Work, *options: str) -> bytes:
    """The diff from where the work began to its tip. No driver, filter or pager of anybody runs."""
    repository = Path(metadata.origin)
    empty = checked(
        runner, git(repository, "hash-object", "-t", "tree", "--stdin"), "git has no empty tree"
    ).text
    base = metadata.base or empty.strip()
    diffing = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", *options, base, work.tip, "--")
    return checked(runner, git(repository, *_QUIET, *diffing), "git cannot show the difference").stdout
