"""What can be seen of running bottles from outside: session files in their homes, processes, memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from claude_bottle.backend.base import Look, Program
from claude_bottle.backend.bubblewrap import entry
from claude_bottle.backend.bubblewrap.lock import lock_holder
from claude_bottle.backend.processes import memory_of, memory_of_group, programs_by
from claude_bottle.backend.sessions import FOLDER, read_sessions
from claude_bottle.state.paths import Home


def look(home: Home, slugs: Sequence[str]) -> Iterator[tuple[str, Look]]:
    """The processes of the host are gone through once for all bottles."""
    inside: dict[str, tuple[entry.Facts, str]] = {}
    for slug in slugs:
        run = str(home.bottle(slug).run)
        try:
            facts = entry.read_facts(run)
        except (entry.NotRunning, OSError):
            if lock_holder(run):
                yield slug, Look(ready=False)
            continue
        with suppress(OSError):  # it has ended
            inside[slug] = facts, namespace_of_first(facts)
    found = programs_by(namespace_of, {namespace for _, namespace in inside.values()})
    for slug, (facts, namespace) in inside.items():
        programs = tuple(found.get(namespace, ()))
        sessions = read_sessions(str(home.bottle(slug).home), *FOLDER)
        yield slug, Look(True, sessions, programs, _memory(facts, programs))


def namespace_of_first(facts: entry.Facts) -> str:
    """Raises OSError where the bottle's first process has ended."""
    namespace = os.readlink(f"/proc/{facts.init}/ns/pid")
    if entry.start_time(facts.init) != facts.born:
        raise ProcessLookupError(facts.init)
    return namespace


def namespace_of(folder: str) -> str:
    return os.readlink(f"{folder}/ns/pid")


def _memory(facts: entry.Facts, programs: Sequence[Program]) -> int | None:
    """By the bottle's own control group where it has one, else by its processes."""
    for group in facts.cgroups:
        used = memory_of_group(group)
        if used is not None:
            return used
    return memory_of(programs)
