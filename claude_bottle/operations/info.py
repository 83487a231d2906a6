"""What an agent may do, from the manifest alone; no backend is asked."""

from __future__ import annotations

from claude_bottle.operations import claude
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import claude_credential
from claude_bottle.operations.preflight import describe_route
from claude_bottle.operations.prepare import load, resolve_agent


def describe_agent(context: Context, name: str) -> dict[str, str | list[str]]:
    """Raises ManifestError, or NotFoundError with the nearest name."""
    agent, bottle = resolve_agent(load(context), name)
    credential = claude_credential(context.environment)
    limits = bottle.limits
    routes = claude.routes(credential, bottle.egress.routes)
    found: dict[str, str | list[str]] = {
        "agent": agent.name,
        "written in": agent.origin,
        "bottle": f"{bottle.name} ({bottle.origin})" if bottle.origin else bottle.name,
        "extends": list(bottle.extends),
        "description": agent.description or "",
        "prompt": f"{len(agent.prompt)} characters",
        "skills": list(agent.skills),
        "workspace": bottle.workspace or "clone in a git repository, else none",
        "may reach": [f"{describe_route(route)}  [{route.origin}]" for route in routes],
        "variables": sorted(bottle.env),
        "limits": [
            f"{key} {value}"
            for key, value in (
                ("memory", limits.memory),
                ("cpus", limits.cpus),
                ("pids", limits.pids),
                ("disk", limits.disk),
                ("wall time", limits.wall_time),
            )
            if value is not None
        ],
    }
    return {key: value for key, value in found.items() if value}
