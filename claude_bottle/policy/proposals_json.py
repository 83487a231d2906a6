"""Proposals and answers as JSON and back, for the sockets and files between processes.

Invariant: what comes back is within the bounds of `proposals`; anything unknown, missing, mistyped or too
long is refused as a whole. The writer may be a sidecar that an agent has broken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from claude_bottle.policy.live import Bounds
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    ANSWERS,
    KINDS,
    MAX_DOCKERFILE,
    MAX_KEPT,
    MAX_PACKAGES,
    MAX_PENDING,
    MAX_TEXT,
    Answer,
    Asked,
    Proposal,
    Queue,
)
from claude_bottle.policy.snapshot import PolicyFormatError, route_from_json, route_to_json

_IDENT = re.compile(r"p-[0-9a-f]{10}")
_WORD = re.compile(r"[A-Za-z0-9-]{0,64}")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.:-]{0,199}(?:=[A-Za-z0-9.+:~-]{1,100})?")
_LATEST = 1e12  # seconds


def queue_to_json(queue: Queue) -> list[object]:
    return [proposal_to_json(item) for item in queue.proposals]


def queue_from_json(obj: object) -> Queue:
    """Raises PolicyFormatError."""
    if not isinstance(obj, list) or len(obj) > MAX_KEPT + MAX_PENDING:
        raise PolicyFormatError("proposals: not a list, or too many")
    found = tuple(proposal_from_json(item) for item in obj)
    if len({item.id for item in found}) != len(found):
        raise PolicyFormatError("proposals: two with one name")
    return Queue(found)


def proposal_to_json(item: Proposal) -> dict[str, object]:
    return {
        "id": item.id,
        "at": item.at,
        "times": item.times,
        "told": item.told,
        "asked": {
            **item.asked._asdict(),
            "route": item.asked.route and route_to_json(item.asked.route),
            "packages": list(item.asked.packages),
        },
        "answer": item.answer and answer_to_json(item.answer),
    }


def proposal_from_json(obj: object) -> Proposal:
    """Raises PolicyFormatError."""
    fields = _record(obj, Proposal._fields)
    ident = _text(fields["id"], "id", 16)
    if not _IDENT.fullmatch(ident):
        raise PolicyFormatError("id: not the name of a proposal")
    return Proposal(
        ident,
        _asked(fields["asked"]),
        _seconds(fields["at"], "at"),
        _count(fields["times"], "times"),
        None if fields["answer"] is None else answer_from_json(fields["answer"]),
        fields["told"] is True,
    )


def answer_to_json(said: Answer) -> dict[str, object]:
    return {
        **said._asdict(),
        "route": said.route and route_to_json(said.route),
        "bounds": list(said.bounds),
        "packages": list(said.packages),
    }


def answer_from_json(obj: object) -> Answer:
    """Raises PolicyFormatError."""
    fields = _record(obj, Answer._fields)
    bounds = fields["bounds"]
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise PolicyFormatError("bounds: not [until, uses]")
    until, uses = bounds
    decision = _text(fields["decision"], "decision", 64)
    if not _WORD.fullmatch(decision):
        raise PolicyFormatError("decision: not a word")
    return Answer(
        _one_of(fields["state"], ANSWERS, "state"),
        decision,
        _seconds(fields["at"], "at"),
        _text(fields["reason"], "reason", MAX_TEXT),
        _route(fields["route"]),
        Bounds(
            None if until is None else _seconds(until, "until"),
            None if uses is None else _count(uses, "uses"),
        ),
        _packages(fields["packages"]),
        _text(fields["dockerfile"], "dockerfile", MAX_DOCKERFILE),
    )


def _asked(obj: object) -> Asked:
    fields = _record(obj, Asked._fields)
    return Asked(
        _one_of(fields["kind"], KINDS, "kind"),
        _text(fields["justification"], "justification", MAX_TEXT),
        _route(fields["route"]),
        _text(fields["url"], "url", MAX_TEXT),
        None if fields["wish"] is None else _seconds(fields["wish"], "wish"),
        _packages(fields["packages"]),
        _text(fields["dockerfile"], "dockerfile", MAX_DOCKERFILE),
    )


def _route(obj: object) -> Route | None:
    return None if obj is None else route_from_json(obj, "route")


def _packages(obj: object) -> tuple[str, ...]:
    if not isinstance(obj, list) or len(obj) > MAX_PACKAGES:
        raise PolicyFormatError("packages: not a list, or too many")
    if not all(type(name) is str and PACKAGE.fullmatch(name) for name in obj):
        raise PolicyFormatError("packages: not the name of a Debian package")
    return tuple(obj)


def _record(obj: object, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(obj, dict) or set(obj) != set(names):
        raise PolicyFormatError(f"has not exactly the keys {', '.join(names)}")
    return obj


def _text(value: object, where: str, limit: int) -> str:
    if type(value) is not str or len(value) > limit:
        raise PolicyFormatError(f"{where}: not a text of at most {limit} characters")
    return value


def _one_of(value: object, known: tuple[str, ...], where: str) -> str:
    if type(value) is not str or value not in known:
        raise PolicyFormatError(f"{where}: not one of {', '.join(known)}")
    return value


def _seconds(value: object, where: str) -> float:
    # A bool is an int to isinstance; what is not finite is in no range.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise PolicyFormatError(f"{where}: not a number of seconds")
    return float(value)


def _count(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value <= 1_000_000_000:
        raise PolicyFormatError(f"{where}: not a number from 0")
    return value
