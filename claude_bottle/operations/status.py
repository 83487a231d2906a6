"""What an agent does, from what it writes of itself and what its backend sees. Pure.

Invariant: a session file is an agent's own words: shown, never trusted. Only words that are known leave this
module; whether its process lives is what the backend says. Seen with Claude Code 2.1.329: a file for each
process, removed when that ends in order, left when it is killed; at first without a status.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from claude_bottle.backend.base import Look, Program, SessionFile

STARTING, WORKING, WAITING, IDLE = "starting", "working", "waiting for input", "idle"
DEGRADED, EXITED, UNKNOWN = "degraded", "exited", "unknown"
# `shell`: nothing is asked or said, but a command goes on in the background.
_STATES = {"busy": WORKING, "shell": WORKING, "waiting": WAITING, "idle": IDLE, None: STARTING}
_WAITS = (
    *("permission prompt", "input needed", "dialog open"),
    *("goal proposal", "sandbox request", "worker request"),
)
_LONGEST_TICKS = 20  # digits of 64 bits
_LAST_SECOND = 1e11  # of a time that can be meant


class Session(NamedTuple):
    """One session file, as far as it is understood. `started` names its process together with `pid`."""

    pid: int
    started: str | None
    status: str
    waiting_for: str | None = None
    since: float | None = None


class Status(NamedTuple):
    """`down` are sidecars that should be up; `since` and `memory` are None where they are not known."""

    status: str
    waiting_for: str | None = None
    since: float | None = None
    down: tuple[str, ...] = ()
    memory: int | None = None


def understand(file: SessionFile) -> Session | None:
    """None for what is no session file."""
    try:
        found = json.loads(file.content)
        pid = int(file.name.partition(".")[0])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    started = found.get("procStart")
    said = found.get("status")
    status = _STATES.get(said, UNKNOWN) if said is None or isinstance(said, str) else UNKNOWN
    return Session(
        pid=pid,
        started=started if isinstance(started, str) else None,
        status=status,
        waiting_for=_waits_for(found.get("waitingFor")) if status == WAITING else None,
        since=_seconds(found.get("statusUpdatedAt") or found.get("startedAt")),
    )


def _waits_for(said: Any) -> str:
    return said if isinstance(said, str) and said in _WAITS else UNKNOWN


def _seconds(milliseconds: Any) -> float | None:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return milliseconds / 1000 if 0 < milliseconds < _LAST_SECOND * 1000 else None


def lives(session: Session, programs: Sequence[Program] | None) -> bool:
    """A number alone may be another process's by now; with the time of its start it is not.

    Where the backend cannot tell processes apart, nothing is known against it.
    """
    return programs is None or any(
        program.pid == session.pid and session.started in (None, program.started) for program in programs
    )


def is_older(session: Session, programs: Sequence[Program] | None) -> bool:
    """Whether it is of an earlier life of the bottle: its process is older than the first of this one."""
    births = [_ticks(program.started) for program in programs or ()]
    mine = _ticks(session.started)
    return bool(births) and mine is not None and all(birth is not None and birth > mine for birth in births)


def _ticks(text: str | None) -> int | None:
    plain = text is not None and text.isascii() and text.isdecimal() and len(text) <= _LONGEST_TICKS
    return int(text) if text is not None and plain else None


def judge(look: Look | None, up: Iterable[str], expected: Iterable[str]) -> Status:
    """`look` is None where the bottle was not seen in time, or has ended since it was listed."""
    if look is not None and not look.ready:
        return Status(STARTING)
    running = set(up)
    down = tuple(name for name in expected if name not in running)
    if look is None:
        return Status(DEGRADED if down else UNKNOWN, down=down)
    found = _of_sessions(look)._replace(down=down, memory=look.memory)
    return found._replace(status=DEGRADED, since=None) if down else found


def _of_sessions(look: Look) -> Status:
    """Of several that live, the one that was written last: it is where somebody, or something, works now.

    Without any file Claude Code does not run, and ended in order if it ever did: the bottle waits for work.
    """
    newest_first = sorted(look.sessions, key=lambda file: file.written, reverse=True)
    understood = [session for file in newest_first if (session := understand(file))]
    sessions = [session for session in understood if not is_older(session, look.programs)]
    living = [session for session in sessions if lives(session, look.programs)]
    if living:
        newest = living[0]
        return Status(newest.status, newest.waiting_for, newest.since)
    return Status(EXITED if sessions else IDLE)
