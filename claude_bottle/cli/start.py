"""Start an agent in a bottle and attach to it.

The plan is shown first; nothing starts before you say yes. Ctrl-\\ detaches, and so does closing the
terminal: the agent works on, and `attach` comes back to it. When claude ends with status 0 its work is
handed over and the bottle's state removed; otherwise the state is preserved.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.launching import (
    add_launch_options,
    launch_agreed,
    options_from,
    refuse_arguments,
)
from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent")
    add_launch_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")
    parser.add_argument(
        "--detach", action="store_true", help="start the bottle, print its slug, and leave it running"
    )
    parser.epilog = "What stands after -- goes to claude."


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.context import system_context

    arguments = refuse_arguments(options.rest)
    if not (options.detach or options.dry_run):
        from claude_bottle.cli.attaching import refuse_without_terminal

        refuse_without_terminal("add --detach, or use claude-bottle run AGENT -p PROMPT")
    context = system_context()
    launched = launch_agreed(
        context, screen, options_from(options, arguments), yes=options.yes, dry=options.dry_run
    )
    if launched is None:
        return 0
    from claude_bottle.operations.session.claude import Asked, remember

    always = tuple(launched.claude_arguments)
    remember(launched.paths, Asked(always, arguments, notify=launched.notify))
    if options.detach:
        screen.put(launched.metadata.slug)
        return 0
    from claude_bottle.cli.attaching import attend

    return attend(context, screen, launched.metadata)
