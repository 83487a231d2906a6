"""A proposal and its answer in words: what is asked for, a row of the log, JSON. Pure.

Invariant: nothing here is safe to look at yet, as the words are an agent's; whoever shows them makes it so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from claude_bottle.operations.preflight import describe_route
from claude_bottle.policy.proposals import MODIFIED, Answer, Asked, Proposal
from claude_bottle.policy.proposals_json import proposal_to_json
from claude_bottle.text import plural


def asks(asked: Asked) -> str:
    """What is asked for, on one line."""
    if asked.route is not None:
        return describe_route(asked.route)
    return _added(asked.packages, asked.dockerfile) or asked.url or "nothing"


def as_fields(item: Proposal) -> tuple[str, ...]:
    """When, its name, its state, what, why, and the answer."""
    said = "-" if item.answer is None else _answered(item.answer)
    return (_time(item.at), item.id, item.state, asks(item.asked), item.asked.justification[:100], said)


def as_json(item: Proposal) -> dict[str, Any]:
    """All of it; ASCII when it is written."""
    return {"state": item.state, **proposal_to_json(item)}


def _answered(said: Answer) -> str:
    """By which decision, for how long, what instead, and why."""
    words = [said.decision] if said.decision else []
    if said.state == MODIFIED:
        added = _added(said.packages, said.dockerfile)
        words.append(f"gives {describe_route(said.route) if said.route is not None else added}")
    words += [f"until {_time(said.bounds.until)}"] if said.bounds.until is not None else []
    words += [plural(said.bounds.uses, "use")] if said.bounds.uses is not None else []
    return ", ".join(words) + (f": {said.reason}" if said.reason else "")


def _added(packages: tuple[str, ...], dockerfile: str) -> str:
    lines = dockerfile.strip().count("\n") + 1
    more = [f"{plural(lines, 'line')} of a Dockerfile"] if dockerfile.strip() else []
    return " ".join([*packages, *more])


def _time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f}"  # no year that a calendar knows
