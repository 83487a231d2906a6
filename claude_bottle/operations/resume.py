"""`resume`: the same bottle once more from its state, with its workspace and its conversation.

Invariant: nothing starts but what the operator was shown. What the manifest says now counts, and how that
differs from what the bottle was is shown before it is agreed to.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Progress
from claude_bottle.errors import BottleError, NotFoundError, UsageError
from claude_bottle.operations import claude, picture
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import Ask
from claude_bottle.operations.launch import Launched, revive
from claude_bottle.operations.prepare import Prepared, prepare_again
from claude_bottle.operations.settle import note_crash
from claude_bottle.policy.additions import Additions
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.state import additions, marker, store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths

_SECONDS = 60.0


class Offer(NamedTuple):
    """A bottle as it would be now, and how that differs from what it was. `notes` say what had happened."""

    prepared: Prepared
    picture: picture.Picture
    changes: tuple[picture.Change, ...]
    notes: tuple[str, ...] = ()


def prepare_resume(context: Context, slug: str) -> Offer:
    """Raises BottleError: unknown, broken, running, or not to be had by the manifest as it is now."""
    metadata = store.load(context.home, slug)
    _refuse_running(context, metadata)
    if not context.home.bottle(slug).picture.exists():
        raise BottleError(
            f"{slug} cannot go on: its start ended before there was a bottle",
            f"start another one; this one goes with claude-bottle cleanup --purge {slug}",
        )
    return offer(context, metadata)


def offer(context: Context, metadata: Metadata, added: Additions | None = None) -> Offer:
    """The bottle once more, by default with what was added to it before. Raises BottleError."""
    prepared = prepare_again(context, metadata, added)
    now = picture.of(prepared)
    same = metadata.manifest_digest == prepared.metadata.manifest_digest
    changes = picture.difference(picture.load(prepared.paths), now, same_digest=same)
    interrupted = additions.under_way(prepared.paths)
    return Offer(prepared, now, changes, _interrupted(interrupted, prepared) if interrupted else ())


def _interrupted(rebuild: additions.Rebuild, prepared: Prepared) -> tuple[str, ...]:
    """The old bottle comes back, unless the new one was proved before the rebuild lost its process."""
    if rebuild.wanted == prepared.additions:
        return (f"it was being rebuilt with {rebuild.wanted.describe()}, which it has now",)
    return (
        f"it was being rebuilt with {rebuild.wanted.describe()}, and that was interrupted:"
        " it comes back as it was before",
        "the agent may ask for that again",
    )


def resume(context: Context, offer: Offer, progress: Progress, ask: Ask) -> tuple[Launched, list[str]]:
    """Launches what was offered. Its arguments for claude continue the conversation where there is one.

    Returns what could not be kept of a crash before, a line each. Raises BottleError; then nothing runs and
    the state is as it was.
    """
    paths = offer.prepared.paths
    with store.locked(paths):
        if not paths.root.is_dir():
            raise NotFoundError(f"{paths.root.name} is gone: another process has ended or removed it")
        found = again(context, offer, progress, ask)
        additions.end(paths)
        return found


def again(context: Context, offer: Offer, progress: Progress, ask: Ask) -> tuple[Launched, list[str]]:
    """As `resume`, for who has the bottle's lock, and whether or not a rebuild is at its end by this."""
    prepared = offer.prepared
    _refuse_running(context, store.load(context.home, prepared.metadata.slug))
    problems = note_crash(context, prepared.metadata, prepared.paths) + _readable_proposals(prepared.paths)
    prepared.backend.discard(prepared.metadata, prepared.paths)  # the other half of one that is half dead
    earlier = marker.read(prepared.paths)
    marker.clear(prepared.paths)
    launched: Launched | None = None
    try:
        launched = revive(context, prepared, progress, ask, partial(_keep_additions, prepared))
        with store.explained(context.home):
            store.save(context.home, prepared.metadata)
            picture.save(prepared.paths, offer.picture)
        return launched._replace(claude_arguments=_arguments(launched, prepared)), problems
    except BaseException:
        if launched is not None:
            launched.bottle.stop()
        if earlier is not None:
            with suppress(OSError):  # without it the state counts as that of a crash
                marker.mark(prepared.paths, earlier.why, earlier.since)
        raise


def _readable_proposals(paths: BottlePaths) -> list[str]:
    """Nobody may take them for none; but none allow nothing, so the bottle can begin without them."""
    try:
        read_queue(str(paths.proposals))
    except BottleError as error:
        aside = paths.proposals.with_name(f"{paths.proposals.name}.unreadable")
        os.replace(paths.proposals, aside)
        return [f"{error.message}; it goes on without them, and that file is now {aside.name}"]
    return []


def _keep_additions(prepared: Prepared) -> None:
    """Before the bottle is handed over, so that it never runs with more than its state says."""
    if additions.load(prepared.paths) != prepared.additions:
        additions.save(prepared.paths, prepared.additions)


def _refuse_running(context: Context, metadata: Metadata) -> None:
    slug = metadata.slug
    if load_backend(metadata.backend).find(metadata, context.home.bottle(slug)) is not None:
        raise UsageError(f"{slug} is running", f"claude-bottle attach {slug}")


def _arguments(launched: Launched, prepared: Prepared) -> list[str]:
    """The prompt is written anew, from inside: it may have changed, and the agent may have removed it."""
    if prepared.agent.prompt:
        launched.bottle.copy_in(prepared.agent.prompt.encode(), claude.PROMPT_FILE)
    asked = launched.bottle.exec(list(claude.HAS_CONVERSATION), timeout=_SECONDS)
    if asked.status not in (0, 1, 2):  # grep(1): found, not found, nothing to look in
        raise BottleError(f"cannot look for a conversation in {launched.metadata.slug}: {asked.complaint}")
    return [*launched.claude_arguments, *(["--continue"] if asked.status == 0 else [])]
