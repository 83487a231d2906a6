"""The plan as text: what the operator reads before saying yes. Pure; the caller sanitises what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_bottle.manifest.model import REJECT, Bottle, Supervise
from claude_bottle.policy.model import Route

if TYPE_CHECKING:
    from claude_bottle.operations.prepare import Prepared

Line = tuple[str, str]  # a label (empty on lines that continue) and a text


def describe(prepared: Prepared) -> list[Line]:
    request = prepared.plan.request
    repository = prepared.workspace.repository
    lines: list[Line] = [
        ("agent", f"{prepared.agent.name} in bottle {prepared.bottle.name}, as {request.slug}"),
        ("backend", f"{prepared.plan.backend_name} ({prepared.chosen})"),
    ]
    source = (
        f"{prepared.workspace.mode} of {prepared.workspace.folder}"
        if prepared.workspace.mode != "none"
        else "none"
    )
    if repository is not None and prepared.workspace.mode != "none":
        source += f" at {repository.head[:10] or 'no commit yet'}"
    if prepared.workspace.branch:
        source += f", on branch {prepared.workspace.branch}"
    lines += _block("workspace", [source])
    lines += _block("may reach", [*map(describe_route, request.policy.routes), "nothing else"])
    lines += _block("variables", _variables(prepared.bottle))
    lines += _block("proposals", [describe_proposals(prepared.bottle.supervise)])
    lines += _block("added", _added(prepared))
    lines += _block("held by", list(prepared.plan.protections()))
    lines += _block("note", [*prepared.warnings, *_notes(prepared)])
    return lines


def describe_route(route: Route) -> str:
    ports = "".join(f":{port}" for port in route.ports if route.ports != (443,))
    words = [f"{route.host}{ports}"]
    if route.inspect:
        words += [",".join(route.methods) or "any method", " ".join(route.paths) or "any path"]
    else:
        words.append("opaque: what is sent there is not seen")
    if route.auth is not None:
        words.append(f"with {route.auth.secret.kind}:{route.auth.secret.argument[0]}, added outside")
    if route.upstream is not None:
        words.append(f"by {route.upstream}")
    return "  ".join(words)


def describe_proposals(supervise: Supervise) -> str:
    """What becomes of what the agent asks for, and who is told."""
    if not supervise:
        return "none: the agent cannot ask for anything"
    if supervise.unanswered != REJECT:
        waits = "wait for your answer"
    elif supervise.after is None:
        waits = "rejected at once, as nobody is there to answer"
    else:
        waits = f"rejected where nobody has answered after {length(supervise.after)}"
    return f"{waits}; told by {supervise.notify[0]}" if supervise.notify else waits


def length(seconds: int) -> str:
    """As a manifest writes it."""
    for unit, factor in (("h", 3600), ("m", 60)):
        if seconds % factor == 0:
            return f"{seconds // factor}{unit}"
    return f"{seconds}s"


def _variables(bottle: Bottle) -> list[str]:
    found = []
    for name, value in bottle.env.items():
        kind = {
            "literal": "",
            "host": " from the host: it DOES enter the bottle",
            "ask": " asked: it DOES enter the bottle",
        }
        found.append(f"{name}{kind[value.kind]}")
    return found


def _added(prepared: Prepared) -> list[str]:
    """What was approved since the first start."""
    added = prepared.additions
    return [*([f"packages {' '.join(added.packages)}"] if added.packages else []), *added.lines]


def _notes(prepared: Prepared) -> list[str]:
    notes = list(prepared.workspace.notes())
    if prepared.credential is None:
        notes.append("no Claude Code account was found on this host: claude inside cannot log in")
    return [*notes, *prepared.plan.caveats()]


def _block(label: str, texts: list[str]) -> list[Line]:
    return [(label if index == 0 else "", text) for index, text in enumerate(texts)]
