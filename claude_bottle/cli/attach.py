"""Attach this terminal to a running agent.

Any number of terminals may be attached; what one types, all see. Claude is started where it does not run
yet, and continued where its terminal was lost. Ctrl-\\ detaches, and so does closing the terminal: the agent
works on. Ctrl-Z suspends this command alone. The exit status is claude's own.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.cli.attaching import attend, refuse_without_terminal
    from claude_bottle.operations.context import reading_context
    from claude_bottle.state import store

    refuse_without_terminal("claude-bottle exec SLUG -- COMMAND needs none")
    context = reading_context()
    metadata = store.load(context.home, options.slug)
    return attend(context, screen, metadata)
