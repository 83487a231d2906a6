"""The end of a bottle: work handed over, transcript kept, everything torn down, state removed or preserved.

Invariant: a step that fails never stops the others, and state is only removed when all of them went well.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError
from claude_bottle.operations import handover
from claude_bottle.operations.context import Context
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths

_TRANSCRIPT_FILES, _TRANSCRIPT_BYTES, _TRANSCRIPT_DEPTH = 2000, 512 << 20, 8
_SESSIONS = ".claude/projects"


class Settled(NamedTuple):
    """What became of a bottle. `problems` are what went wrong on the way, a line each."""

    slug: str
    work: handover.Work
    preserved: bool
    problems: tuple[str, ...]


def settle(context: Context, metadata: Metadata, bottle: Bottle | None, *, keep: bool) -> Settled:
    """Ends the bottle if it runs. `keep` preserves the state even where all went well."""
    with store.locked(context.home.bottle(metadata.slug)):
        return _settle(context, metadata, bottle, keep=keep)


def _settle(context: Context, metadata: Metadata, bottle: Bottle | None, *, keep: bool) -> Settled:
    paths = context.home.bottle(metadata.slug)
    problems: list[str] = []
    work = handover.Work(())
    backend = load_backend(metadata.backend)
    if bottle is not None:
        try:
            work = handover.take(context.runner, _capture(metadata, paths), metadata)
            problems += [work.lacks] if work.lacks else []
        except (BottleError, OSError) as error:
            problems.append(f"the work was not handed over: {error}")
    try:
        backend.gather(metadata, paths)
    except (BottleError, OSError) as error:
        problems.append(str(error))
    if bottle is not None:
        try:
            bottle.stop()
        except (BottleError, OSError) as error:
            problems.append(str(error))
    try:
        archive(context, metadata.slug, paths)
    except OSError as error:
        problems.append(f"the transcript was not kept: {error.strerror}")
    backend.discard(metadata, paths)
    preserved = keep or bool(problems)
    if not preserved:
        try:
            backend.forget(metadata, paths)
            store.remove(paths)
        except (OSError, BottleError) as error:
            problems.append(f"the state was not removed: {error}")
            preserved = True
    return Settled(metadata.slug, work, preserved, tuple(problems))


def _capture(metadata: Metadata, paths: BottlePaths) -> handover.Captured:
    """Of the bottle, or what another process captured when it ended it. Raises BottleError."""
    bottle = load_backend(metadata.backend).find(metadata, paths)
    if bottle is not None:
        return handover.capture(bottle, metadata, paths)
    found = handover.captured(paths)
    if found is None and metadata.branch:
        raise BottleError("the bottle had ended already")
    return found or handover.Captured(None)


def stop(context: Context, slug: str) -> tuple[Settled, bool]:
    """Ends a bottle from any process; the state is preserved. The flag says whether it was running."""
    metadata = store.load(context.home, slug)
    paths = context.home.bottle(slug)
    with store.locked(paths):
        bottle = load_backend(metadata.backend).find(metadata, paths)
        return _settle(context, metadata, bottle, keep=True), bottle is not None


def archive(context: Context, slug: str, paths: BottlePaths) -> None:
    """Copies the transcript and the decisions out of the state folder. Links are never followed."""
    target = context.home.archive(slug)
    for source, name in _kept_files(paths):
        destination = target / name
        destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(source, "rb", opener=_no_follow) as original, open(destination, "wb") as copy:
            shutil.copyfileobj(original, copy)


def _kept_files(paths: BottlePaths) -> Iterator[tuple[Path, str]]:
    if paths.decisions.is_file():
        yield paths.decisions, "decisions.jsonl"
    left_files, left_bytes = _TRANSCRIPT_FILES, _TRANSCRIPT_BYTES
    sessions = paths.home / _SESSIONS
    if any(path.is_symlink() for path in (paths.home / ".claude", sessions)):
        return
    for folder, folders, files in os.walk(sessions):
        if len(Path(folder).relative_to(sessions).parts) >= _TRANSCRIPT_DEPTH:
            folders.clear()  # a tree without end would end the walk badly
        for name in sorted(files):
            source = Path(folder, name)
            found = source.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size > left_bytes or left_files == 0:
                continue
            left_files, left_bytes = left_files - 1, left_bytes - found.st_size
            yield source, f"transcript/{source.relative_to(sessions)}"


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
