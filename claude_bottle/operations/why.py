"""Why a running bottle may or may not do something: its own judgement, for the operator.

Invariant: the answer comes from the functions that decide in the bottle, on the policy in force there.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from claude_bottle.errors import BottleError, UsageError
from claude_bottle.operations import decisions, edits
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Seen
from claude_bottle.operations.preflight import describe_route
from claude_bottle.policy.denials import Attempt, proposal
from claude_bottle.policy.hosts import InvalidHost, is_public_address, matches, normalise_host, parse_ip
from claude_bottle.policy.live import LiveRoute, items_in_force
from claude_bottle.policy.model import Decision, Policy, Route
from claude_bottle.policy.proposals import Proposal
from claude_bottle.policy.routes import decide_connect, decide_request
from claude_bottle.policy.rules import TOKEN
from claude_bottle.sidecars.egress.protocol import ConnectRequest, RefusedError, check_literal


class Tried(NamedTuple):
    """What the decision log says of the last time."""

    at: str
    verdict: str
    reason: str
    method: str = ""
    path: str = ""


class Verdict(NamedTuple):
    """What is decided and by which rule; of a denial the rule that comes nearest, and what would allow it."""

    attempt: Attempt
    decision: Decision
    rule: LiveRoute | None  # that allows it, or comes nearest
    now: float
    tried: Tried | None = None
    ended: str = ""  # the grant that allowed this host, and when it ran out
    asked: str = ""  # the proposal that waits for an answer about this
    command: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.decision.allowed


def ask(context: Context, slug: str, url: str, method: str) -> Verdict:
    """Raises UsageError for what is no URL or a bottle that has ended, NotFoundError, BottleError."""
    attempt = target(url, method)
    seen = edits.seen_of(context, slug)
    found = judge(seen, attempt)
    if not found.allowed:
        found = found._replace(command=command(slug, found), asked=_asked(seen.queue.pending, attempt))
    tried, ended = _logged(_log(context, slug), attempt)
    return found._replace(tried=tried, ended="" if found.allowed else ended)


def target(url: str, method: str) -> Attempt:
    """What a URL, or a host with or without port and path, means. Raises UsageError."""
    whole = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(whole)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"this is no URL: {error}") from None
    if parts.scheme != "https":
        raise UsageError(f"nothing leaves a bottle but https, and this is {parts.scheme}")
    if "@" in parts.netloc:
        raise UsageError("a URL with a user name or password is not taken")
    if not TOKEN.fullmatch(method):
        raise UsageError(f"{method!r} is no method of HTTP")
    try:
        host = normalise_host(parts.hostname or "")
    except InvalidHost as error:
        raise UsageError(f"this is no URL: {error}") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Attempt(host, 443 if port is None else port, method, path)


def judge(seen: Seen, attempt: Attempt) -> Verdict:
    """As the gate and the authorization server would, one after the other. Pure."""
    items = items_in_force(seen.live, seen.now)
    decision = _decide(Policy(tuple(item.route for item in items), seen.live.version), attempt)
    return Verdict(attempt, decision, _item(items, decision.route or decision.nearest), seen.now)


def _decide(policy: Policy, attempt: Attempt) -> Decision:
    found = decide_connect(policy, attempt.host, attempt.port)
    if found.route is None:
        return found
    request = ConnectRequest(attempt.host, attempt.port, parse_ip(attempt.host) is not None)
    try:
        check_literal(request, found.route)
    except RefusedError as error:
        return Decision(False, error.reason, detail=error.detail, nearest=found.route)
    if not found.route.inspect:
        return found
    return decide_request(policy, *attempt)


def _item(items: Iterable[LiveRoute], route: Route | None) -> LiveRoute | None:
    """Of several that are the same the one that costs least."""
    same = [item for item in items if item.route == route]
    return min(same, key=lambda item: item.bounds.uses is not None, default=None)


def command(slug: str, found: Verdict) -> tuple[str, ...]:
    """What the operator would type to allow it; empty where no rule can."""
    host, port, method, path = found.attempt
    fixed = ("claude-bottle", "routes", "add", slug, host)
    ports = () if port == 443 else ("--port", str(port))
    if parse_ip(host) is not None:
        return (*fixed, *ports, "--no-inspect") if is_public_address(host) else ()
    asked = proposal(Attempt(host, port, method, path), found.decision.reason)
    if asked is None:
        return ()
    nearest = found.decision.nearest
    upstream = nearest.upstream if nearest is not None and nearest.host == host else None
    led = () if upstream is None else ("--upstream", str(upstream))
    return (*fixed, *ports, "--method", method, "--path", path.partition("?")[0], *led)


def _asked(pending: Iterable[Proposal], attempt: Attempt) -> str:
    for item in pending:
        route = item.asked.route
        if route is not None and _decide(Policy((route,)), attempt).allowed:
            return item.id
    return ""


def _log(context: Context, slug: str) -> Path | None:
    from claude_bottle.operations.logs import log_path

    try:
        return log_path(context, slug, "decisions")
    except BottleError:  # what was tried is good to know, and not the question
        return None


def _logged(log: Path | None, attempt: Attempt) -> tuple[Tried | None, str]:
    """The last request that was the same, else the last thing at all at this host and port; and the last
    grant for the host that ran out."""
    same = other = None
    ended, path = "", attempt.path.partition("?")[0]
    for event in decisions.read(log) if log is not None else ():
        if event.get("event") == "grant-ended" and matches(str(event.get("host")), attempt.host):
            ended = f"decision {event.get('decision')} at {event.get('at')}"
        if (event.get("host"), event.get("port")) != (attempt.host, attempt.port) or "verdict" not in event:
            continue
        other = event
        if event.get("method") == attempt.method and str(event.get("path")).partition("?")[0] == path:
            same = event
    last = same or other
    tried = None if last is None else Tried(*(str(last.get(word) or "") for word in Tried._fields))
    return tried, ended


def as_json(found: Verdict) -> dict[str, Any]:
    decision = found.decision
    rule = found.rule and edits.as_json(found.rule)
    return {
        **found.attempt._asdict(),
        "allowed": decision.allowed,
        "reason": decision.reason,
        "detail": decision.detail,
        "rule": rule if decision.allowed else None,
        "nearest": None if decision.allowed else rule,
        "tried": found.tried and found.tried._asdict(),
        "ended": found.ended or None,
        "proposal": found.asked or None,
        "command": list(found.command),
    }


def as_lines(found: Verdict) -> list[tuple[str, str]]:
    """For a person; the caller sanitises it."""
    host, port, method, path = found.attempt
    shown = (
        f"{method} https://{f'[{host}]' if ':' in host else host}{'' if port == 443 else f':{port}'}{path}"
    )
    lines = [("allowed" if found.allowed else "denied", shown)]
    if not found.allowed:
        lines.append(("reason", f"{found.decision.reason}: {found.decision.detail}"))
    if found.rule is not None:
        lines.append(("by" if found.allowed else "nearest", describe_route(found.rule.route)))
        lines.append(("from", edits.provenance(found.rule)))
        lines.append(("holds", edits.left(found.rule.bounds, found.now)))
    if found.allowed and found.rule is not None and not found.rule.route.inspect:
        lines.append(("note", "a tunnel: what is asked for in it is not seen"))
    if found.tried is not None:
        at, verdict, reason, *what = found.tried
        lines.append(
            ("tried", " ".join(filter(None, (at, verdict, "" if reason == "allowed" else reason, *what))))
        )
    if found.ended:
        lines.append(("ran out", found.ended))
    if found.asked:
        lines.append(("asked", f"{found.asked}: claude-bottle proposals show {found.asked}"))
    if found.command:
        lines.append(("allow it", shlex.join(found.command)))
    elif not found.allowed:
        lines.append(("allow it", "no rule can"))
    return lines
