"""Show what an agent is and may do, and where each part of it is written."""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.context import reading_context
    from claude_bottle.operations.info import describe_agent
    from claude_bottle.text import shown

    found = describe_agent(reading_context(), options.agent)
    if options.json:
        screen.put_json(found)
        return 0
    for key, value in found.items():
        items = value if isinstance(value, list) else [value]
        for index, item in enumerate(items):
            screen.put(f"{key if index == 0 else '':<12}{shown(item, 500)}")
    return 0
