"""Looks at all bottles again and again, for a screen: what has not changed since is not read again.

Invariant: who lives is asked anew each time, of the kernel: the lock of each bottle, and the start of each
process that a session file names. Memory is left out. All of the host's processes are gone through only where
such a file names one that is not known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import ActiveAgent, Look, Program, SessionFile
from claude_bottle.backend.bubblewrap import entry
from claude_bottle.backend.bubblewrap.enumerate import row_of
from claude_bottle.backend.bubblewrap.lock import ENTRY, lock_holder
from claude_bottle.backend.bubblewrap.look import namespace_of, namespace_of_first
from claude_bottle.backend.processes import programs_by, started
from claude_bottle.backend.sessions import FOLDER, Known, numbers_of
from claude_bottle.sidecars.services import SERVICES_FILE, services_down, services_up
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, list_slugs
from claude_bottle.state.store import Broken
from claude_bottle.state.store import read as read_state
from claude_bottle.state.traces import Kept

_Up = tuple[tuple[str, ...], tuple[str, ...]]


class _Session(NamedTuple):
    """The processes that a bottle's session files name, and those files."""

    files: tuple[SessionFile, ...] = ()
    living: tuple[Program, ...] = ()


class Watch:
    """`look` is for what `active` has just found."""

    def __init__(self, state: Path) -> None:
        self._home, self._state = Home(state.parent), str(state)
        self._slugs: Kept[list[str]] = Kept()
        self._metadata: Kept[Metadata | Broken] = Kept()
        self._services: Kept[_Up] = Kept()
        self._entries: Kept[entry.Facts] = Kept()
        self._files = Known()
        self._sessions: dict[str, _Session] = {}
        self._facts: dict[str, entry.Facts | None] = {}

    def active(self) -> list[ActiveAgent]:
        for kept in (self._slugs, self._metadata, self._services, self._entries):
            kept.turn()
        rows: list[ActiveAgent] = []
        self._facts = {}
        for slug in self._slugs.get(self._state, partial(list_slugs, self._home)):
            root = f"{self._state}/{slug}"
            if lock_holder(f"{root}/run") == 0:
                continue
            found = self._metadata.get(f"{root}/metadata.json", partial(read_state, self._home, slug))
            facts = self._facts[slug] = self._read_entry(f"{root}/run")
            record = f"{root}/run/{SERVICES_FILE}"
            up, down = ((), ()) if facts is None else self._services.get(record, partial(_services, record))
            rows += row_of(slug, found, up, down)
        return rows

    def _read_entry(self, run: str) -> entry.Facts | None:
        try:
            return self._entries.get(f"{run}/{ENTRY}", partial(entry.read_entry, run))
        except (entry.NotRunning, OSError):
            return None

    def look(self, slugs: Sequence[str]) -> Iterator[tuple[str, Look]]:
        homes = {slug: f"{self._state}/{slug}/home" for slug in slugs if self._facts.get(slug)}
        self._files.forget(set(homes.values()))
        files = {slug: self._files.read(home, *FOLDER) for slug, home in homes.items()}
        self._sessions = self._found(files)
        for slug in slugs:
            if slug in self._facts:
                facts, session = self._facts[slug], self._sessions.get(slug, _Session())
                yield slug, Look(ready=False) if facts is None else _look(facts, session)

    def _found(self, files: Mapping[str, tuple[SessionFile, ...]]) -> dict[str, _Session]:
        """What was not there when these files were looked at first is not looked for again."""
        known = {
            slug: _Session(before.files, tuple(filter(_lives, before.living)))
            for slug, before in self._sessions.items()
            if files.get(slug) == before.files
        }
        new = {slug: found for slug, found in files.items() if slug not in known}
        places: dict[str, str] = {}
        for slug in (slug for slug, found in new.items() if found):
            facts = self._facts[slug]
            with suppress(OSError):  # it has ended
                if facts is not None:
                    places[slug] = namespace_of_first(facts)
        programs = programs_by(namespace_of, frozenset(places.values())) if places else {}
        for slug, found in new.items():
            named = numbers_of(found)
            inside = programs.get(places.get(slug, ""), ())
            known[slug] = _Session(found, tuple(item for item in inside if item.pid in named))
        return known


def _look(facts: entry.Facts, session: _Session) -> Look:
    return Look(True, session.files, (Program(1, facts.born, facts.init), *session.living))


def _lives(program: Program) -> bool:
    """Asked for each agent in each look: by plain system calls, which take half of the time."""
    try:
        file = os.open(f"/proc/{program.outside}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return started(os.read(file, 4096).decode(errors="replace")) == program.started
        finally:
            os.close(file)
    except (OSError, IndexError):
        return False


def _services(record: str) -> _Up:
    return services_up(Path(record)) or (), services_down(Path(record))
