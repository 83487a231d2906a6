"""What agents ask for reaches the audit log as soon as anybody outside the bottle sees it, and once.

Invariant: of one proposal there is one line of the kind `proposal`, however many processes see it at once and
whenever one of them is killed. Theory: the names of those that have a line are in a file of the bottle's
state, which one process at a time has. It is emptied before a line is written and filled after: who finds no
whole list makes it anew from the log, which is the truth. After so many of one bottle a last line says that
no more follow; an agent can ask without end, and what is decided stands whole in the line of its decision.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from claude_bottle.errors import BottleError
from claude_bottle.policy.proposals import Proposal
from claude_bottle.policy.proposals_json import proposal_to_json
from claude_bottle.state import audit, store
from claude_bottle.state.paths import Home

PROPOSAL = "proposal"  # a kind of line
MOST = 500  # of one bottle, over all its lives
_ALL = "all"  # in the list: the last line is written as well
_LAST: tuple[str, Mapping[str, object]] = (
    _ALL,
    {"what": "no more of what it asks is noted, but for what is decided"},
)
_LIST = re.compile(rb"((?:(?:p-[0-9a-f]{10}|all)\n)*)end\n")
_LIST_BYTES = 16 * (MOST + 2)

Step = Callable[[str], None]


def note(home: Home, slug: str, agent: str, seen: Iterable[Proposal], *, step: Step = lambda _: None) -> None:
    """Writes a line for each that has none; returns when all are on the disk.

    Nothing for a bottle whose state is gone: who settled it has noted all. Raises BottleError or OSError.
    `step` is told of each step that is done.
    """
    items = list(seen)
    if not items:
        return
    with store.explained(home):
        try:
            descriptor = store.take(home.bottle(slug).root / "noted", fcntl.LOCK_EX)
        except FileNotFoundError:
            return
        try:
            _note(home, slug, agent, items, descriptor, step)
        finally:
            os.close(descriptor)


def unnoted(home: Home, slug: str, agent: str, seen: Iterable[Proposal]) -> str:
    """As `note`; why that failed, on one line, empty where it did not."""
    try:
        note(home, slug, agent, seen)
    except (BottleError, OSError) as error:
        why = error.message if isinstance(error, BottleError) else error.strerror or str(error)
        return f"what {slug} asks is not in the audit log: {why}"
    return ""


def _note(home: Home, slug: str, agent: str, items: list[Proposal], descriptor: int, step: Step) -> None:
    listed = _listed(descriptor)
    known = _from_log(home, slug) if listed is None else listed
    fresh = [item for item in items if item.id not in known]
    lines = [_line(item) for item in fresh]
    room = max(0, MOST - len(known))
    if len(lines) > room:
        lines = lines[:room] + ([] if _ALL in known else [_LAST])
    if lines:
        _replace(descriptor, b"")
        step("begun")
    for name, told in lines:
        audit.append(home, PROPOSAL, slug=slug, agent=agent, data=told)
        step("written")
        known[name] = None
    if lines or listed is None:
        _replace(descriptor, "".join(f"{name}\n" for name in (*known, "end")).encode("ascii"))
        step("listed")


def _line(item: Proposal) -> tuple[str, Mapping[str, object]]:
    return item.id, {"proposal": item.id, "asked": proposal_to_json(item)}


def _listed(descriptor: int) -> dict[str, None] | None:
    """None where there is no list, or not all of one."""
    found = _LIST.fullmatch(os.pread(descriptor, _LIST_BYTES, 0))
    return None if found is None else dict.fromkeys(found[1].decode("ascii").split())


def _from_log(home: Home, slug: str) -> dict[str, None]:
    """Of a bottle whose time of birth cannot be read all of the log is read."""
    metadata = store.read(home, slug)
    since = None if isinstance(metadata, store.Broken) else datetime.fromtimestamp(metadata.created, UTC)
    lines = audit.read(home, since)
    mine = (line for line in lines if line.get("kind") == PROPOSAL and line.get("slug") == slug)
    return {str(line.get("proposal") or _ALL): None for line in mine}


def _replace(descriptor: int, content: bytes) -> None:
    os.ftruncate(descriptor, 0)
    if content and os.pwrite(descriptor, content, 0) != len(content):
        raise BottleError("the list of what was noted was not written")
    os.fsync(descriptor)
