"""What an agent is told when something is denied: why, what comes nearest, and what would ask for it. Pure.

Invariant: bounded in size, and without a credential or the name of one; a proposal is offered only where an
approval of exactly it would allow what was denied, as far as that can be known here.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_bottle.policy.hosts import is_public_address, parse_ip
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import EGRESS
from claude_bottle.policy.rules import METHODS, path_problem

TYPE = "claude-bottle-denied"
MAX_DETAIL = 512
MAX_PATH = 2048  # what is shown of it
MAX_PROPOSED_PATH = 512
MAX_LISTED = 8
_MAX_ITEM = 120

_ASK = (
    f'To ask the operator for it, call the MCP tool "{EGRESS}" with the arguments in `proposal` and a '
    "justification; until it is approved, go on with something else."
)
_ASK_HOST = (
    f'To ask the operator for it, call the MCP tool "{EGRESS}" with the arguments in `proposal`, with the '
    "methods and paths that you need, and a justification; until it is approved, go on with something else."
)
_ALONE = "Nobody is asked for more in this bottle: do without it."
_NEVER = "No approval allows this as it is: change the request, or do without it."
_LATER = "This may pass: try again in a moment."
_UNREACHED = ("host-not-allowed", "port-not-allowed")
_GRANTABLE = (*_UNREACHED, "method-not-allowed", "path-not-allowed", "grant-ended")
_PASSING = frozenset(
    {
        *("stage-down", "too-many-connections", "head-timeout", "log-failed", "log-unavailable"),
        *("connect-failed", "dns-timeout", "dns-failure", "rule-changed", "credential-unavailable"),
    }
)


class Attempt(NamedTuple):
    """What an agent tried. Without a method it is a connection, whose requests nobody has seen."""

    host: str
    port: int
    method: str = ""
    path: str = ""


def denial(
    attempt: Attempt, reason: str, detail: str, nearest: Route | None = None, *, supervised: bool = False
) -> dict[str, object]:
    """The body of a refusal, for a machine. `supervised` says whether there is anybody to ask."""
    asked = proposal(attempt, reason)
    offered = asked if supervised else None
    tried: dict[str, object] = {"host": attempt.host or None, "port": attempt.port or None}
    if attempt.method:
        tried |= {"method": attempt.method, "path": shortened(attempt.path)}
    error = {
        "type": TYPE,
        "reason": reason,
        "detail": detail[:MAX_DETAIL],
        **tried,
        "nearest": nearest and _rule(nearest),
        "proposal": offered,
        "next": _next(reason, asked, supervised),
    }
    return {"error": error}


def proposal(attempt: Attempt, reason: str) -> dict[str, object] | None:
    """The arguments for EGRESS that ask for this and no more; None where no route could allow it."""
    host, port, method, path = attempt
    if not host:
        return None
    if parse_ip(host) is not None:
        opaque = {"host": host, "ports": [port], "inspect": False}
        return opaque if reason in _UNREACHED and is_public_address(host) else None
    if reason in _UNREACHED and not method:
        return {"host": host, "ports": [port]}
    if reason not in _GRANTABLE:
        return None
    prefix = path.partition("?")[0]
    if method not in METHODS or len(prefix) > MAX_PROPOSED_PATH or path_problem(prefix) is not None:
        return None
    return {"host": host, "ports": [port], "methods": [method], "paths": [prefix]}


def shortened(path: str) -> str:
    """For logs and messages; what is cut off is counted."""
    cut = len(path) - MAX_PATH
    return path if cut <= 0 else f"{path[:MAX_PATH]}...({cut} more)"


def _next(reason: str, asked: dict[str, object] | None, supervised: bool) -> str:
    if reason in _PASSING:
        return _LATER
    if asked is None:
        return _NEVER
    if not supervised:
        return _ALONE
    return _ASK if "methods" in asked or "inspect" in asked else _ASK_HOST


def _rule(route: Route) -> dict[str, object]:
    """A rule as the agent may know it: where it leads, and never with what."""
    return {
        "host": route.host,
        "ports": list(route.ports[:MAX_LISTED]),
        "methods": list(route.methods),  # of a handful that exist
        "paths": [path[:_MAX_ITEM] for path in route.paths[:MAX_LISTED]],
        "inspect": route.inspect,
    }
