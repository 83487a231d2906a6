"""What has changed from one look at all agents to the next. Pure.

Invariant: an agent is said to be gone only when its backend was there to be asked; of what nobody could see,
nothing is said but that it is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from claude_bottle.operations.agents import NOBODY, Row
from claude_bottle.operations.status import UNKNOWN

GONE = "gone"
Line = tuple[str, ...]  # backend, slug, agent, services, status


class Picture(NamedTuple):
    """What is known of now: a line for each agent, by slug, and the warnings."""

    lines: dict[str, Line] = {}  # noqa: RUF012 - never written to
    warnings: tuple[str, ...] = ()


def picture_of(before: Picture, rows: Sequence[Row], warnings: Iterable[str]) -> Picture:
    """What is known after another look. An agent of a backend that did not answer stands as unknown."""
    found = {line[1]: line for line in map(line_of, rows) if line[1] != NOBODY}
    silent = {line[0] for line in map(line_of, rows) if line[1] == NOBODY}
    kept = {
        slug: (*line[:4], UNKNOWN)
        for slug, line in before.lines.items()
        if slug not in found and line[0] in silent
    }
    return Picture({**kept, **found}, tuple(warnings))


def line_of(row: Row) -> Line:
    values = row.as_dict()
    status = str(values["status"])
    down = values["down"]
    waiting = values["waiting_for"]
    if isinstance(down, tuple) and down and status != UNKNOWN:
        status = f"{status}: {', '.join(down)} down"
    elif waiting:
        status = f"{status}: {waiting}"
    return (*row.fields(), status)


def changes(before: Picture, after: Picture) -> tuple[list[Line], list[str]]:
    """Lines that are new or not what they were, ends included; and warnings that were not there before."""
    lines = [line for slug, line in after.lines.items() if before.lines.get(slug) != line]
    ended = [(*line[:4], GONE) for slug, line in before.lines.items() if slug not in after.lines]
    return ended + lines, [text for text in after.warnings if text not in before.warnings]
