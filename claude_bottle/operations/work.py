"""`diff` and `pull`: the work of a bottle, whether it runs, was stopped, or died."""

from __future__ import annotations

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Progress
from claude_bottle.errors import UsageError
from claude_bottle.operations import handover
from claude_bottle.operations.context import Context
from claude_bottle.operations.launch import revive
from claude_bottle.operations.prepare import prepare_capture
from claude_bottle.operations.settle import note_crash
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata


def pull(context: Context, slug: str, progress: Progress) -> tuple[Metadata, handover.Work]:
    """Brings the newest work into `refs/bottles/<slug>/`. Raises BottleError.

    A bottle that died before its work was captured is started once more, without anybody in it, to make the
    bundle: host git never reads what an agent wrote in place.
    """
    metadata = store.load(context.home, slug)
    paths = context.home.bottle(slug)
    if not metadata.branch:
        raise UsageError(
            f"{slug} has no git branch of its own: its workspace is {metadata.workspace!r}",
            f"look at {paths.workspace}" if metadata.workspace == "copy" else None,
        )
    with store.locked(paths):
        bottle = load_backend(metadata.backend).find(metadata, paths)
        if bottle is not None:
            captured = handover.capture(bottle, metadata, paths, last=False)
        else:
            captured = handover.captured(paths) or _capture_dead(context, metadata, progress)
        return metadata, handover.take(context.runner, captured, metadata)


def _capture_dead(context: Context, metadata: Metadata, progress: Progress) -> handover.Captured:
    """What a crash left is kept first: what the bottle is revived in takes its place."""
    paths = context.home.bottle(metadata.slug)
    problems = note_crash(context, metadata, paths)
    launched = revive(context, prepare_capture(context, metadata), progress, _nobody_asks)
    try:
        found = handover.capture(launched.bottle, metadata, paths)
        return found._replace(lacks="; ".join([*([found.lacks] if found.lacks else []), *problems]))
    finally:
        launched.bottle.stop()


def _nobody_asks(question: str) -> str:
    raise AssertionError("nothing is asked of a bottle with nobody in it")
