"""What runs (active, the default), and what there is (agents, bottles, preserved).

active: <backend> TAB <slug> TAB <agent> TAB <services>, sorted by start. Services that are not up are left
out.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", default="active", choices=("active", "agents", "bottles", "preserved")
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace, screen: Screen) -> int:
    import os

    from claude_bottle.operations.agents import active, declared, preserved
    from claude_bottle.state.paths import home_from

    home = home_from(os.environ)
    if options.what == "active":
        rows, warnings = active(home)
    elif options.what == "preserved":
        rows, warnings = preserved(home)
    else:
        from claude_bottle.operations.context import working_folder

        rows, warnings = declared(home, working_folder(), options.what)
    for warning in warnings:
        screen.say(warning)
    if options.json:
        screen.put_json({options.what: [row.as_dict() for row in rows], "warnings": list(warnings)})
    else:
        for row in rows:
            screen.put_row(row.fields())
    return 0
