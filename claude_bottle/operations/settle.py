"""The end of a bottle: work handed over, transcript kept, everything torn down, state removed or preserved.

Invariant: a step that fails never stops the others, and state is only removed when all of them went well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from claude_bottle.backend import enumerate_active_agents, load_backend
from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError
from claude_bottle.operations import archive, handover, record
from claude_bottle.operations.archive import said
from claude_bottle.operations.context import Context
from claude_bottle.state import marker, store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths, is_slug, list_slugs

STOPPED, CRASHED = "stopped", "it ended without being stopped"


class Settled(NamedTuple):
    """What became of a bottle. `problems` are what went wrong on the way, a line each."""

    slug: str
    work: handover.Work
    preserved: bool
    problems: tuple[str, ...]


def settle(
    context: Context, metadata: Metadata, bottle: Bottle | None, *, keep: bool, why: str = ""
) -> Settled:
    """Ends the bottle if it runs. `keep` preserves the state also where all went well, because of `why`."""
    with store.locked(context.home.bottle(metadata.slug)):
        return _settle(context, metadata, bottle, keep=keep, why=why or "interrupted")


def stop(context: Context, slug: str) -> tuple[Settled, bool]:
    """Ends a bottle from any process; the state is preserved. The flag says whether it was running.

    Raises NotFoundError with the nearest slug, BottleError where the state or its backend cannot be read.
    """
    store.load(context.home, slug)
    paths = context.home.bottle(slug)
    with store.locked(paths):
        if not paths.root.exists():  # another process has settled it while this one waited
            return Settled(slug, handover.Work(()), False, ()), False
        metadata = store.load(context.home, slug)
        bottle = load_backend(metadata.backend).find(metadata, paths)
        return _settle(context, metadata, bottle, keep=True, why=STOPPED), bottle is not None


def take_down(context: Context, metadata: Metadata, bottle: Bottle, why: str) -> Settled:
    """As `settle`, for who has the bottle's lock and launches it again; the state is preserved."""
    return _settle(context, metadata, bottle, keep=True, why=why)


def running(context: Context) -> tuple[list[str], list[str]]:
    """Every slug that runs, half-dead ones included, and which backends could not be asked."""
    found = enumerate_active_agents(context.home.state) if list_slugs(context.home) else []
    unknown = [f"{row.backend_name}: {row.warning}" for row in found if not is_slug(row.slug)]
    return [row.slug for row in found if is_slug(row.slug)], unknown


def note_crash(context: Context, metadata: Metadata, paths: BottlePaths) -> list[str]:
    """Keeps what a bottle left that nobody settled; the caller has its lock and knows that it does not run.

    Returns what could not be kept, a line each.
    """
    if marker.read(paths) is not None:
        return []
    problems = archive.keep(context, metadata, paths)
    try:
        record.stop(context, metadata, None, CRASHED)
        record.denials(context, metadata, paths)
    except (BottleError, OSError) as error:
        problems.append(f"its end is not in the audit log: {said(error)}")
    try:
        marker.mark(paths, CRASHED)
    except OSError as error:
        problems.append(f"its end was not noted: {said(error)}")
    return problems


class _Steps:
    """Steps that do not stop each other, and what went wrong in them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    @contextmanager
    def step(self, failing: str = "") -> Iterator[None]:
        try:
            yield
        except (BottleError, OSError) as error:
            self.problems.append(f"{failing}{said(error)}")


def _settle(context: Context, metadata: Metadata, bottle: Bottle | None, *, keep: bool, why: str) -> Settled:
    """The caller has the lock. Who was here before, by the marker, has the last word on why."""
    paths, work, steps = context.home.bottle(metadata.slug), handover.Work(()), _Steps()
    backend, earlier = load_backend(metadata.backend), marker.read(paths)
    if bottle is not None:
        with steps.step("the work was not handed over: "):
            work = handover.take(context.runner, _capture(metadata, paths, earlier), metadata)
            steps.problems += [work.lacks] if work.lacks else []
    if not backend.home_stays:
        steps.problems += archive.keep(context, metadata, paths)
    if bottle is not None or earlier is None:
        with steps.step("its end is not in the audit log: "):
            record.stop(context, metadata, bottle, why if bottle is not None else CRASHED)
    if bottle is not None:
        with steps.step():
            bottle.stop()
    if backend.home_stays:
        steps.problems += archive.keep(context, metadata, paths)
    if bottle is not None or earlier is None:
        with steps.step("what it was denied and what it asked is not all in the audit log: "):
            record.denials(context, metadata, paths)
    with steps.step("what it left on the host was not removed: "):
        backend.discard(metadata, paths)
    preserved = keep or bool(steps.problems) or earlier is not None
    if not preserved:
        with steps.step("the state was not removed: "):
            backend.forget(metadata, paths)
            store.remove(paths)
        preserved = bool(steps.problems)
    if preserved and earlier is None and paths.root.exists():
        with steps.step("why it is preserved was not noted: "):
            marker.mark(paths, _reason(bottle, keep, why, steps.problems))
    return Settled(metadata.slug, work, preserved, tuple(steps.problems))


def _reason(bottle: Bottle | None, keep: bool, why: str, problems: list[str]) -> str:
    if bottle is None:
        return CRASHED
    return "; ".join([*([why] if keep else []), *problems[:1]])


def _capture(metadata: Metadata, paths: BottlePaths, earlier: marker.Preserved | None) -> handover.Captured:
    """Of the bottle, or what another process captured when it ended it. Raises BottleError."""
    bottle = load_backend(metadata.backend).find(metadata, paths)
    if bottle is not None:
        return handover.capture(bottle, metadata, paths)
    found = handover.captured(paths)
    if found is None and earlier is None:
        raise BottleError("the bottle had ended already")
    return found or handover.Captured(None)
