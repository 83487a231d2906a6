"""What ends that were no ends in order have left on this host: found as one plan, shown, then removed.

Rules. 1. State whose bottle was launched is work, and never removed but by name. 2. What another process
starts or stops at this moment is left alone, as is what has changed since the plan was shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from claude_bottle.backend import known_backend_names, load_backend
from claude_bottle.backend.base import Remain
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.operations.context import Context
from claude_bottle.operations.settle import note_crash
from claude_bottle.state import store
from claude_bottle.state.paths import Home, is_slug, list_slugs

_DAY = 86400.0
STATE, PURGED, LOCK = "state", "preserved state", "lock"
Look = Callable[[], list[Remain]]
Remove = Callable[[Sequence[Remain]], None]


def plan(context: Context, purge: Sequence[str] = ()) -> tuple[list[Remain], list[str]]:
    """Everything that would go, and what could not be looked at. Raises NotFoundError, UsageError."""
    found, problems = [_purged(context, slug) for slug in purge], []
    for look, _ in _places(context):
        try:
            found += look()
        except (BottleError, OSError) as error:
            problems.append(str(error))
    return [item for item in found if not _is_busy(context.home, item.slug)], problems


def carry_out(context: Context, agreed: Sequence[Remain]) -> list[str]:
    """Removes what is in the plan and still there; returns what went wrong, a line each."""
    problems = []
    for slug in dict.fromkeys(item.slug for item in agreed):
        mine = [item for item in agreed if item.slug == slug]
        try:
            with store.locked_or_busy(context.home.bottle(slug)):
                problems += [f"{slug}: {problem}" for problem in _kept_of_a_crash(context, slug)]
                purged = any(item.kind == PURGED for item in mine)
                wanted = partial(_is_wanted, mine, slug if purged else "")
                _remove(context, wanted)
                if purged:
                    _purge(context, slug)
                    _remove(context, wanted)  # what has no state only now
        except (BottleError, OSError) as error:
            problems.append(f"{slug}: {error}")
    return problems


def _is_wanted(agreed: Sequence[Remain], purged: str, item: Remain) -> bool:
    """Of what is purged, everything."""
    return item in agreed or item.slug == purged


def _remove(context: Context, wanted: Callable[[Remain], bool]) -> None:
    for look, remove in _places(context):
        remove([item for item in look() if wanted(item)])


def _kept_of_a_crash(context: Context, slug: str) -> list[str]:
    """What nobody settled is kept before anything of it goes; what cannot be is still in the state."""
    metadata, paths = store.read(context.home, slug), context.home.bottle(slug)
    if isinstance(metadata, store.Broken):
        return []
    if load_backend(metadata.backend).find(metadata, paths) is not None:
        return []
    return note_crash(context, metadata, paths)


def _places(context: Context) -> list[tuple[Look, Remove]]:
    backends = [load_backend(name) for name in known_backend_names()]
    places: list[tuple[Look, Remove]] = [
        (partial(backend.remains, context.home.state), backend.clean) for backend in backends
    ]
    return [
        *places,
        (lambda: _unused(context.home), lambda items: _remove_state(context.home, items)),
        (lambda: _unlocked(context.home), lambda _: None),  # who gives the lock up removes it
    ]


def _unlocked(home: Home) -> list[Remain]:
    """Locks of bottles whose state went, where whoever held them was killed right after."""
    names = os.listdir(home.state) if home.state.is_dir() else []
    slugs = [name.removeprefix(".").removesuffix(".lock") for name in names if name.endswith(".lock")]
    return [
        Remain(LOCK, str(home.state / f".{slug}.lock"), slug, "its bottle has no state")
        for slug in slugs
        if is_slug(slug) and not home.bottle(slug).root.exists()
    ]


def _unused(home: Home) -> list[Remain]:
    """Folders of starts that ended before they had a bottle: no agent has ever worked there.

    A young one may belong to a start whose operator is still reading the preflight.
    """
    roots = {slug: home.bottle(slug) for slug in list_slugs(home)}
    long_ago = time.time() - _DAY
    return [
        Remain(STATE, str(paths.root), slug, "its start ended before it had a bottle")
        for slug, paths in roots.items()
        if not paths.metadata.exists() and paths.root.stat().st_mtime < long_ago
    ]


def _remove_state(home: Home, items: Sequence[Remain]) -> None:
    for item in items:
        store.remove(home.bottle(item.slug))


def _purged(context: Context, slug: str) -> Remain:
    if _runs(context.home, slug):
        raise UsageError(f"{slug} is running", f"claude-bottle stop {slug}")
    return Remain(PURGED, str(context.home.bottle(slug).root), slug, "asked for")


def _purge(context: Context, slug: str) -> None:
    """Of a state that nobody can read, the folder: what else there is of it is found by its name."""
    paths = context.home.bottle(slug)
    if _runs(context.home, slug):
        raise BottleError("it is running")
    metadata = store.read(context.home, slug)
    if not isinstance(metadata, store.Broken):
        backend = load_backend(metadata.backend)
        backend.discard(metadata, paths)
        backend.forget(metadata, paths)
    store.remove(paths)


def _runs(home: Home, slug: str) -> bool:
    """Of a state that nobody can read, every backend is asked.

    Raises NotFoundError; BottleError where nobody knows.
    """
    paths = home.bottle(slug)
    if not is_slug(slug) or not paths.root.is_dir():
        store.load(home, slug)  # says which may be meant
    metadata = store.read(home, slug)
    if not isinstance(metadata, store.Broken):
        return load_backend(metadata.backend).find(metadata, paths) is not None
    backends = [load_backend(name) for name in known_backend_names()]
    return any(row.slug == slug for backend in backends for row in backend.active(home.state))


def _is_busy(home: Home, slug: str) -> bool:
    try:
        with store.locked_or_busy(home.bottle(slug)):
            return False
    except store.BusyError:
        return True
