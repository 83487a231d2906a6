"""What runs (active, the default), and what there is (agents, bottles, preserved).

active: <backend> TAB <slug> TAB <agent> TAB <services>, sorted by start. Services that are not up are left
out. With --json each also has what it does: status (starting, working, waiting for input, idle, degraded,
exited, unknown), what it waits for, since when, which services are down, its memory in bytes, and how many
of its proposals wait for your answer (null where only `proposals` can tell). Status is what Claude Code in
the bottle says of itself: good to know, nothing to rely on. With --watch this is looked at again each
second; plain is a line for each change, with its time in front and the status behind.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from claude_bottle.cli.screen import Screen

if TYPE_CHECKING:
    from claude_bottle.operations.agents import Listing
    from claude_bottle.state.paths import Home


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", default="active", choices=("active", "agents", "bottles", "preserved")
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object; with --watch one for each change"
    )
    parser.add_argument("--watch", action="store_true", help="go on until Ctrl-C; for active only")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="with --watch: a line for each change, for a screen reader or a log; the default off a terminal",
    )


def run(options: argparse.Namespace, screen: Screen) -> int:
    import os

    from claude_bottle.state.paths import home_from

    home = home_from(os.environ)
    if options.watch or options.plain:
        return _watch(options, home, screen)
    rows, warnings = _listing(options, home)
    for warning in warnings:
        screen.say(warning)
    if options.json:
        screen.put_json({options.what: [row.as_dict() for row in rows], "warnings": list(warnings)})
    else:
        for row in rows:
            screen.put_row(row.fields())
    return 0


def _listing(options: argparse.Namespace, home: Home) -> Listing:
    from claude_bottle.operations.agents import active, declared, preserved

    if options.what == "active":
        if not options.json:
            return active(home)
        from claude_bottle.operations.observed import observed

        return observed(home)
    if options.what == "preserved":
        return preserved(home)
    from claude_bottle.operations.context import working_folder

    return declared(home, working_folder(), options.what)


def _watch(options: argparse.Namespace, home: Home, screen: Screen) -> int:
    """Goes on until a signal ends it."""
    from claude_bottle.errors import UsageError

    if not options.watch:
        raise UsageError("--plain goes with --watch", "without --watch a list is plain already")
    if options.what != "active":
        raise UsageError(f"--watch shows what runs, not {options.what}", "claude-bottle list --watch")
    from claude_bottle.cli import watching

    if options.json:
        watching.watch_as_json(home, screen)
    elif options.plain or not screen.data_is_terminal or screen.is_dumb:
        watching.watch_plainly(home, screen)
    else:
        watching.watch_in_place(home, screen)
    return 0
