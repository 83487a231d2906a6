"""End bottles from any process: the work is taken over, the transcript kept, the state preserved."""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slugs", nargs="+", metavar="SLUG")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.cli.launching import report
    from claude_bottle.errors import EXIT_FAILED, EXIT_OK, BottleError
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.settle import stop

    context = system_context()
    status = EXIT_OK
    for slug in options.slugs:
        try:
            settled, was_running = stop(context, slug)
        except BottleError as error:
            screen.error(error)
            status = error.exit_code
            continue
        screen.say(f"{slug} {'stopped' if was_running else 'was not running'}")
        report(screen, settled)
        if settled.problems:
            status = EXIT_FAILED
    return status
