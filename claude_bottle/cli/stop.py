"""End bottles from any process: the work is taken over, the transcript kept, the state preserved."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from claude_bottle.cli.screen import Screen

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slugs", nargs="*", metavar="SLUG")
    parser.add_argument("--all", action="store_true", help="everything that runs, of every backend")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.cli.launching import report
    from claude_bottle.errors import EXIT_FAILED, EXIT_OK, BottleError
    from claude_bottle.operations.archive import said
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.settle import stop

    context = system_context()
    slugs, complaints = _asked(options, context)
    for complaint in complaints:
        screen.say(complaint)
    found = [EXIT_FAILED] if complaints else []
    for slug in slugs:
        try:
            settled, was_running = stop(context, slug)
        except (BottleError, OSError) as error:
            failed = error if isinstance(error, BottleError) else BottleError(f"{slug}: {said(error)}")
            screen.error(failed)
            found.append(failed.exit_code)
            continue
        screen.say(f"{slug} {'stopped' if was_running else 'was not running'}")
        report(screen, settled)
        if settled.problems:
            found.append(EXIT_FAILED)
    if not found:
        return EXIT_OK
    return found[0] if len(set(found)) == 1 else EXIT_FAILED


def _asked(options: argparse.Namespace, context: Context) -> tuple[list[str], list[str]]:
    """What to end, each once, and what could not be looked at."""
    from claude_bottle.errors import UsageError
    from claude_bottle.operations.settle import running

    if bool(options.slugs) == options.all:
        raise UsageError("name what to stop, or say --all", "claude-bottle list shows what runs")
    return running(context) if options.all else (list(dict.fromkeys(options.slugs)), [])
