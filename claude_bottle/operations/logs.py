"""The logs of a bottle: where they are, and reading them as they grow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from claude_bottle.backend import load_backend
from claude_bottle.errors import NotFoundError
from claude_bottle.operations.context import Context
from claude_bottle.state.paths import is_slug, list_slugs
from claude_bottle.state.store import Broken, nearest_hint, read

_POLL_SECONDS = 0.2


def log_path(context: Context, slug: str, service: str) -> Path:
    """An ended bottle keeps its decisions in the archive.

    Raises NotFoundError with the nearest slug, BottleError where a running one's cannot be had.
    """
    paths = context.home.bottle(slug)
    if is_slug(slug) and paths.root.is_dir():
        metadata = read(context.home, slug)
        if not isinstance(metadata, Broken):
            load_backend(metadata.backend).gather_logs(metadata, paths)
        sockets = paths.run / "egress"
        return {
            "decisions": paths.decisions,
            "bundle": paths.logs / "bundle.log",
            "envoy": sockets / "envoy.log",
            "requests": sockets / "envoy-access.log",
        }[service]
    archived = context.home.archive(slug) / "decisions.jsonl"
    if is_slug(slug) and service == "decisions" and archived.is_file():
        return archived
    raise NotFoundError(
        f"there is no {service} log of {slug!r}", nearest_hint(slug, list_slugs(context.home))
    )


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
