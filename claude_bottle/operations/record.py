"""What the audit log is told of a bottle's life: its starts and ends, its denials, what it asked to the last.

Invariant: a start is on the disk before a program of the agent runs, an end before the bottle is ended. What
an agent chose, the hosts, is counted within bounds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from claude_bottle.backend.probe import DENIED_HOST
from claude_bottle.errors import BottleError
from claude_bottle.operations import deciding, decisions
from claude_bottle.operations.context import Context
from claude_bottle.operations.noting import note
from claude_bottle.policy.proposals import Proposal, Queue
from claude_bottle.policy.snapshot import route_to_json
from claude_bottle.policy.unanswered import by_time
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.state import audit

if TYPE_CHECKING:
    from claude_bottle.backend.base import Bottle
    from claude_bottle.operations.prepare import Prepared
    from claude_bottle.state.metadata import Metadata
    from claude_bottle.state.paths import BottlePaths

START, STOP, DENIALS, UNDECIDED = "start", "stop", "denials", "undecided"
_HOSTS = 50
_PROPOSALS = 50
_WORDS = 300


def start(context: Context, prepared: Prepared, *, again: bool) -> None:
    """Raises BottleError or OSError; then the bottle may not be used."""
    metadata = prepared.metadata
    told = {
        "bottle": metadata.bottle,
        "backend": metadata.backend,
        "workspace": metadata.workspace,
        "origin": metadata.origin,
        "manifest": metadata.manifest_digest,
        "again": again,
    }
    audit.append(context.home, START, slug=metadata.slug, agent=metadata.agent, data=told)


def stop(context: Context, metadata: Metadata, bottle: Bottle | None, why: str) -> None:
    """A decision whose process was killed gets its outcome before nobody can be asked any more.

    Raises BottleError or OSError.
    """
    try:
        deciding.recover(context, metadata.slug, bottle)
    except BottleError:  # it does not say any more, and soon it cannot
        deciding.recover(context, metadata.slug, None)
    told = {"why": why, "backend": metadata.backend}
    audit.append(context.home, STOP, slug=metadata.slug, agent=metadata.agent, data=told)


def denials(context: Context, metadata: Metadata, paths: BottlePaths) -> None:
    """Of all its runs so far, from what was kept of them: what it was denied, what it asked and nobody has
    seen until now, and what nobody has decided.

    Nothing where there is none. Raises BottleError or OSError.
    """

    def tell(kind: str, told: dict[str, object]) -> None:
        if told:
            audit.append(context.home, kind, slug=metadata.slug, agent=metadata.agent, data=told)

    tell(DENIALS, _denied(context, metadata))
    queue = read_queue(str(paths.proposals))
    note(context.home, metadata.slug, metadata.agent, queue.proposals)
    tell(UNDECIDED, _undecided(queue))


def _denied(context: Context, metadata: Metadata) -> dict[str, object]:
    counted: Counter[tuple[str, str]] = Counter()
    for event in decisions.read(context.home.archive(metadata.slug) / "decisions.jsonl"):
        if event.get("verdict") == "deny" and event.get("host") != DENIED_HOST:  # the proof asks for it
            counted[str(event.get("host"))[:253], str(event.get("reason"))[:64]] += 1
    if not counted:
        return {}
    return {
        "in_all": sum(counted.values()),
        "most": [[host, reason, count] for (host, reason), count in counted.most_common(_HOSTS)],
        "more_hosts": max(0, len(counted) - _HOSTS),
    }


def _undecided(queue: Queue) -> dict[str, object]:
    """What no operator has answered. What one has stands whole in the line of that decision."""
    found = [item for item in queue.proposals if item.answer is None or by_time(item.answer)]
    if not found:
        return {}
    return {"in_all": len(found), "last": [_in_short(item) for item in found[-_PROPOSALS:]]}


def _in_short(item: Proposal) -> dict[str, object]:
    asked = item.asked
    return {
        "proposal": item.id,
        "kind": asked.kind,
        "at": item.at,
        "times": item.times,
        "state": item.state,
        "route": asked.route and route_to_json(asked.route),
        "packages": list(asked.packages),
        "dockerfile": asked.dockerfile[:_WORDS],
        "justification": asked.justification[:_WORDS],
    }
