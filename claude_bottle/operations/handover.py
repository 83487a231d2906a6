"""Bringing work back as data: a `git bundle` made inside, checked and fetched outside.

Invariant: host git reads a bundle and nothing else of what an agent made. Its objects are checked as they
come in, no hook runs, and they land below `refs/bottles/<slug>/` where nothing looks by itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.operations.repository import git
from claude_bottle.proc import Runner, checked
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths

UNCOMMITTED = "refs/claude-bottle/uncommitted"
MAX_BYTES = 4 << 30
_BUNDLE, _GLIMPSE = "work.bundle", "glimpse.bundle"
_MAX_REFS = 1000
_QUIET = (
    *("-c", "transfer.fsckObjects=true"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0"),
    *("-c", "submodule.recurse=false"),
)

# Inside; $1 is the commit that the host has already. What is not committed becomes a commit of its own.
# The brackets: a --glob without a pattern would mean what lies below that name.
_MAKE = """
set -eu
git update-ref -d refs/claude-bottle/uncommitted
if [ -n "$(git status --porcelain | head -c 1)" ]; then
    index=$(git rev-parse --git-path claude-bottle.index)
    cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
    GIT_INDEX_FILE=$index git add --all .
    tree=$(GIT_INDEX_FILE=$index git write-tree)
    rm -f "$index"
    parent=$(git rev-parse -q --verify HEAD || :)
    commit=$(git commit-tree ${parent:+-p "$parent"} -m "not committed in the bottle" "$tree")
    git update-ref refs/claude-bottle/uncommitted "$commit"
fi
new=$(git rev-list --max-count=1 --branches --glob=refs/claude-bottle/uncommitte[d] ${1:+"^$1"})
if [ -z "$new" ]; then exit 0; fi
exec git bundle create --quiet - --branches --glob=refs/claude-bottle/uncommitte[d] ${1:+"^$1"}
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What came back: (ref on the host, commit), the branch first. Empty when nothing was made."""

    refs: tuple[tuple[str, str], ...]

    @property
    def tip(self) -> str:
        """The ref that has everything: what was not committed included."""
        uncommitted = [ref for ref, _ in self.refs if ref.endswith("/uncommitted")]
        return (uncommitted or [ref for ref, _ in self.refs] or [""])[0]


def capture(bottle: Bottle, metadata: Metadata, paths: BottlePaths, *, last: bool = True) -> Path | None:
    """Makes the bundle inside and keeps it in the state folder; None where there is nothing to hand over.

    Only the `last` one, after which the bottle ends, is what `captured` finds later.
    """
    if not metadata.branch:
        return None
    paths.handover.mkdir(mode=0o700, exist_ok=True)
    done = bottle.exec(["sh", "-c", _MAKE, "sh", metadata.base], timeout=1800, limit=MAX_BYTES)
    if done.status != 0:
        raise BottleError(f"git inside {metadata.slug} cannot bundle the work: {done.complaint}")
    if not done.stdout:
        return None
    target = paths.handover / (_BUNDLE if last else _GLIMPSE)
    temporary = target.with_suffix(".new")
    temporary.write_bytes(done.stdout)
    os.rename(temporary, target)
    return target


def captured(paths: BottlePaths) -> Path | None:
    """The work of a bottle that has ended, if it ended well."""
    found = paths.handover / _BUNDLE
    return found if found.exists() else None


def forget(paths: BottlePaths) -> None:
    """The bottle goes on: what was captured is not the last of it any more."""
    (paths.handover / _BUNDLE).unlink(missing_ok=True)


def fetch(runner: Runner, bundle: Path, metadata: Metadata) -> Work:
    """Takes a bundle into the host repository. Raises BottleError; then no ref has changed."""
    repository = Path(metadata.origin)
    if not repository.is_dir():
        raise NotFoundError(f"the repository {repository} is gone", f"the work is kept in {bundle}")
    what = f"the work of {metadata.slug} cannot be taken over"
    listed = checked(runner, git(repository, *_QUIET, "bundle", "list-heads", str(bundle)), what).text
    wanted = _wanted(listed, metadata.slug)
    if not wanted:
        return Work(())
    refspecs = [f"+{source}:{target}" for source, target in wanted]
    options = ("--quiet", "--atomic", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    fetching = git(repository, *_QUIET, "fetch", *options, "--no-auto-maintenance", str(bundle), *refspecs)
    checked(runner, fetching, what)
    uncommitted = f"refs/bottles/{metadata.slug}/uncommitted"
    if (UNCOMMITTED, uncommitted) not in wanted:  # all of it was committed since, or given up
        checked(runner, git(repository, *_QUIET, "update-ref", "-d", uncommitted), what)
    targets = [target for _, target in wanted]
    resolved = checked(runner, git(repository, "rev-parse", *targets), what).text.split()
    return Work(_branch_first(tuple(zip(targets, resolved, strict=True)), metadata.branch))


def _wanted(listed: str, slug: str) -> list[tuple[str, str]]:
    """(ref in the bundle, ref on the host). Any other ref is left where it is."""
    pairs = []
    for line in listed.splitlines()[:_MAX_REFS]:
        ref = line.partition(" ")[2]
        if ref == UNCOMMITTED:
            pairs.append((ref, f"refs/bottles/{slug}/uncommitted"))
        elif ref.startswith("refs/heads/") and _is_plain(ref):
            pairs.append((ref, f"refs/bottles/{slug}/heads/{ref[len('refs/heads/') :]}"))
    return pairs


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
