"""What an agent is told: texts, and the same as data. Pure.

Invariant: nothing of the operator's is in it but the answer itself: no secret, no name of one, no upstream,
no place in a manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from claude_bottle.policy.hosts import matches
from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    APPROVED,
    CAPABILITY,
    MODIFIED,
    REJECTED,
    Answer,
    Proposal,
)
from claude_bottle.sidecars.supervise.tools import CHECK

MAX_LISTED = 200

Told = dict[str, object]


def result(text: str, data: Told | None = None, *, error: bool = False) -> Told:
    """Of a result that has data Claude Code shows its model nothing else: so the text is there as well."""
    found: Told = {"content": [{"type": "text", "text": text}], "isError": error}
    return found if data is None else {**found, "structuredContent": {"message": text, **data}}


def of_proposal(proposal: Proposal, *, waited: bool = False) -> Told:
    """What has become of it. `waited` is for one that nobody has answered in the time of a call."""
    said = proposal.answer
    data: Told = {"id": proposal.id, "state": proposal.state}
    if said is None:
        return result(_pending(proposal, waited), data)
    if said.reason:
        data["reason"] = said.reason
    if said.state in (APPROVED, MODIFIED):
        data |= _granted(said)
        return result(_approved(proposal, said), data)
    word = "Rejected" if said.state == REJECTED else "Expired: nobody answered in time"
    more = "Go on without it." if said.state == REJECTED else "Go on without it, or ask again later."
    return result(f"{word} ({proposal.id}).{_reason(said)} {more}", data)


def of_standing(route: Route) -> Told:
    """The agent asks for what it has."""
    text = f"This is allowed already: {describe(route)}. Nothing was asked; try it again."
    return result(text, {"state": "in-force", "route": _route(route)})


def of_routes(policy: LivePolicy, now: float, host: str = "") -> Told:
    """What may be reached now; `host` asks for what concerns one host."""
    held = [
        item for item in policy.routes if _holds(item, now) and (not host or matches(item.route.host, host))
    ]
    listed = [{**_route(item.route), **_bounds(item.bounds), "approved": bool(item.grant)} for item in held]
    lines = [f"- {describe(item.route)}{_until(item.bounds)}" for item in held[:MAX_LISTED]]
    if len(held) > MAX_LISTED:
        lines.append(f"- and {len(held) - MAX_LISTED} more")
    text = "\n".join(["Allowed now:", *lines]) if held else "Nothing of this is allowed now."
    return result(text, {"version": policy.version, "routes": listed[:MAX_LISTED], "all": len(held)})


def describe(route: Route) -> str:
    ports = "".join(f":{port}" for port in route.ports if route.ports != (443,))
    if not route.inspect:
        return f"{route.host}{ports}, as an opaque tunnel"
    methods, paths = ", ".join(route.methods) or "any method", ", ".join(route.paths) or "any path"
    return f"{route.host}{ports}, {methods}, {paths}"


def _pending(proposal: Proposal, waited: bool) -> str:
    before = "Nobody has answered yet" if waited else "It waits for the operator's answer"
    return (
        f"{before}. The proposal {proposal.id} stays: ask {CHECK} with this id later, or ask the same again"
        " to wait on."
    )


def _approved(proposal: Proposal, said: Answer) -> str:
    changed = f" with changes ({_changes(proposal, said)})" if said.state == MODIFIED else ""
    if proposal.asked.kind == CAPABILITY:
        what = ", ".join([*said.packages, *(["lines for the Dockerfile"] if said.dockerfile else [])])
        return (
            f"Approved{changed}: {what or 'as asked'}. The bottle is being rebuilt; you will be resumed in"
            f" it, and told what has changed. Begin nothing new now.{_reason(said)}"
        )
    route = said.route or proposal.asked.route
    what = describe(route) if route is not None else "as asked"
    return f"Approved{changed}: {what}{_until(said.bounds)}. It is in force now.{_reason(said)}"


def _changes(proposal: Proposal, said: Answer) -> str:
    """In which words the answer differs from what was asked."""
    asked = proposal.asked
    found: list[str] = []
    if asked.route is not None and said.route is not None:
        before, after = _route(asked.route), _route(said.route)
        found += [
            f"{key}: {_word(after[key])} instead of {_word(before[key])}"
            for key in before
            if before[key] != after[key]
        ]
    if asked.packages != said.packages:
        found.append(f"packages: {_word(said.packages)} instead of {_word(asked.packages)}")
    if asked.dockerfile != said.dockerfile:
        found.append("other lines for the Dockerfile")
    return "; ".join(found) or "of its bounds"


def _word(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "any"
    return str(value)


def _granted(said: Answer) -> Told:
    data: Told = {**_bounds(said.bounds)}
    if said.route is not None:
        data["route"] = _route(said.route)
    if said.packages:
        data["packages"] = list(said.packages)
    if said.dockerfile:
        data["dockerfile"] = said.dockerfile
    return data


def _route(route: Route) -> Told:
    return {
        "host": route.host,
        "ports": list(route.ports),
        "methods": list(route.methods),
        "paths": list(route.paths),
        "inspect": route.inspect,
    }


def _bounds(bounds: Bounds) -> Told:
    return {"until": None if bounds.until is None else _clock(bounds.until), "uses": bounds.uses}


def _until(bounds: Bounds) -> str:
    found: Iterable[str] = (
        *([f"until {_clock(bounds.until)}"] if bounds.until is not None else []),
        *([f"{bounds.uses} uses"] if bounds.uses is not None else []),
    )
    return "".join(f"; {word}" for word in found)


def _reason(said: Answer) -> str:
    return f" The operator says: {said.reason}" if said.reason else ""


def _clock(at: float) -> str:
    return (
        datetime.fromtimestamp(min(at, 253402300799), UTC)
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z")
    )


def _holds(item: LiveRoute, now: float) -> bool:
    until, uses = item.bounds
    return (until is None or now < until) and (uses is None or uses > 0)
