"""Remove what bottles have left on this host that nothing will use again.

Preserved state is work, and stays, unless --purge names it.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only show what would go")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--purge",
        action="append",
        default=[],
        metavar="SLUG",
        help="this bottle's preserved state too",
    )


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.errors import EXIT_FAILED, EXIT_OK
    from claude_bottle.operations.cleanup import carry_out, plan
    from claude_bottle.operations.context import system_context
    from claude_bottle.text import plural

    context = system_context()
    remains, problems = plan(context, options.purge)
    for item in remains:
        screen.put_row((item.kind, item.name, item.slug, item.reason))
    screen.flush()
    if not remains:
        screen.say("there is nothing to remove")
    elif not options.dry_run and screen.confirm(f"Remove {plural(len(remains), 'thing')}?", options.yes):
        problems += carry_out(context, remains)
    for problem in problems:
        screen.say(problem)
    return EXIT_FAILED if problems else EXIT_OK
