"""An agent that asks for more, and what waits for its operator then."""

from __future__ import annotations

from typing import Any

from tests.support.e2e import Cli, eventually

TOOL = "mcp__claude-bottle__{}"


def tool(name: str, **arguments: object) -> dict[str, Any]:
    """A turn in which the model calls one of the bottle's own tools."""
    return {"tools": [{"name": TOOL.format(name), "input": arguments}]}


def asking(name: str, **wanted: object) -> dict[str, Any]:
    """A turn in which the model asks; its reason goes over two lines."""
    return tool(name, **{"justification": "I\nneed it", **wanted})


def waiting(cli: Cli) -> str:
    """The one proposal that waits."""
    found: list[str] = []

    def asked() -> bool:
        found[:] = [row[0] for row in cli("proposals", "list").ok().rows]
        return bool(found)

    eventually(asked)
    (ident,) = found
    return ident
