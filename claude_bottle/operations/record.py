"""What the audit log is told of a bottle's life: its starts, its ends, and what it was denied, in sum.

Invariant: a start is on the disk before a program of the agent runs, an end before the bottle is ended. What
an agent chose, the hosts, is counted within bounds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from claude_bottle.errors import BottleError
from claude_bottle.operations import deciding, decisions
from claude_bottle.operations.context import Context
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.state import audit

if TYPE_CHECKING:
    from claude_bottle.backend.base import Bottle
    from claude_bottle.operations.prepare import Prepared
    from claude_bottle.state.metadata import Metadata
    from claude_bottle.state.paths import BottlePaths

START, STOP, DENIALS = "start", "stop", "denials"
_HOSTS = 50


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
    """Of all its runs so far, from what was kept of its decisions; nothing where there are none.

    Raises BottleError or OSError.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for event in decisions.read(context.home.archive(metadata.slug) / "decisions.jsonl"):
        if event.get("verdict") == "deny":
            counted[str(event.get("host"))[:253], str(event.get("reason"))[:64]] += 1
    unanswered = [item.id for item in read_queue(str(paths.proposals)).pending]
    if not counted and not unanswered:
        return
    told = {
        "in_all": sum(counted.values()),
        "most": [[host, reason, count] for (host, reason), count in counted.most_common(_HOSTS)],
        "more_hosts": max(0, len(counted) - _HOSTS),
        "unanswered": unanswered,
    }
    audit.append(context.home, DENIALS, slug=metadata.slug, agent=metadata.agent, data=told)
