"""What there is to read of a bottle: its conversation, its decisions, its proposals, what its sidecars said.

Invariant: what an agent wrote is read from our own copy of it, which no link leads into and nobody else
writes; and line by line within bounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.operations import archive, transcript
from claude_bottle.operations.context import Context
from claude_bottle.policy.proposals import Proposal
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import is_slug, list_slugs

PROPOSALS = "proposals"
FILES = {
    "decisions": "decisions.jsonl",
    PROPOSALS: "proposals.json",
    "requests": "envoy-access.log",
    "envoy": "envoy.log",
    "bundle": "bundle.log",
}
TRANSCRIPT = "transcript"
SERVICES = (TRANSCRIPT, *FILES)
LONGEST_LINE = 8 << 20
_POLL_SECONDS = 0.2
_SESSIONS, _HEAD = 1000, 50


class Session(NamedTuple):
    """A file of one conversation; `began` is what its first lines say, for the order."""

    name: str
    path: Path
    began: str


def log_path(context: Context, slug: str, service: str) -> Path:
    """Of a bottle that runs, is preserved, or of which the archive is left.

    Raises NotFoundError with the nearest slug, BottleError where a running one's cannot be had.
    """
    paths = context.home.bottle(slug)
    if is_slug(slug) and paths.root.is_dir():
        metadata = store.read(context.home, slug)
        if not isinstance(metadata, store.Broken):
            load_backend(metadata.backend).gather_logs(metadata, paths)
        found = archive.log_files(paths)[FILES[service]]
        if found.is_file() or not (context.home.archive(slug) / FILES[service]).is_file():
            return found
    return _archived(context, slug) / FILES[service]


def asked(context: Context, slug: str) -> tuple[Proposal, ...]:
    """What the bottle's agent has asked for, the oldest first. Raises as `log_path`, and where it cannot be
    read."""
    return read_queue(str(log_path(context, slug, PROPOSALS))).proposals


def _archived(context: Context, slug: str) -> Path:
    """The bottle's folder in the archive, there or not. Raises NotFoundError where nothing is known of it."""
    folder = context.home.archive(slug)
    if is_slug(slug) and (folder.is_dir() or context.home.bottle(slug).root.is_dir()):
        return folder
    known = [*list_slugs(context.home), *archive.slugs(context.home)]
    raise NotFoundError(f"there is no bottle {slug!r}", store.nearest_hint(slug, known))


def capture(context: Context, slug: str) -> tuple[Path, list[str]]:
    """Brings all that can be read into the archive now; returns where that is, and what could not be kept.

    Raises NotFoundError with the nearest slug, BottleError for a state that cannot be read.
    """
    metadata = store.load(context.home, slug)
    return context.home.archive(slug), archive.keep(context, metadata, context.home.bottle(slug))


def sessions(context: Context, slug: str) -> tuple[list[Session], list[str]]:
    """The conversations, the oldest first, and what could not be had. Raises NotFoundError.

    Of a bottle with state they are brought into the archive first: as they are now.
    """
    folder, problems = _archived(context, slug) / archive.TRANSCRIPT / "projects", []
    metadata = _metadata(context, slug)
    if isinstance(metadata, store.Broken):
        problems.append(f"the state of {slug} cannot be read: {metadata.reason}")
    elif metadata is not None:
        try:
            problems += archive.keep_transcript(context, metadata, context.home.bottle(slug))
        except BottleError as error:
            problems.append(error.message)
    found = list(islice(folder.rglob("*.jsonl"), _SESSIONS + 1))
    if len(found) > _SESSIONS:
        problems.append(f"only {_SESSIONS} conversations are shown")
    shown = [Session(str(path.relative_to(folder)), path, _began(path)) for path in found[:_SESSIONS]]
    return sorted(shown, key=lambda item: (item.began or "~", item.name)), problems


def _metadata(context: Context, slug: str) -> Metadata | store.Broken | None:
    return store.read(context.home, slug) if context.home.bottle(slug).root.is_dir() else None


def _began(path: Path) -> str:
    head = islice(transcript.entries(islice(read_lines(path), _HEAD)), 1)
    return next((entry.at for entry in head), "")


def read_lines(path: Path) -> Iterator[str]:
    """Each at most so long; of a longer one there is the beginning, which is a damaged line then."""
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        while line := file.readline(LONGEST_LINE):
            yield line
            while line and not line.endswith("\n"):
                line = file.readline(LONGEST_LINE)


def follow(path: Path, *, forever: bool) -> Iterator[str]:
    """Whole lines; with `forever` it waits for more, also over a rotation."""
    position, inode = 0, 0
    while True:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = path.stat().st_ino
                position = position if found == inode else 0
                inode = found
                file.seek(position)
                while (line := file.readline()).endswith("\n"):
                    position = file.tell()
                    yield line[:-1]
        except FileNotFoundError:
            pass
        if not forever:
            return
        time.sleep(_POLL_SECONDS)
