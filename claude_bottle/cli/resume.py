"""Start a bottle that has ended once more: same workspace, same branch, and claude goes on where it was.

The plan is shown first, and what has changed in the manifest since; nothing starts before you say yes. Where
there is no conversation to continue, claude begins one.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen
from claude_bottle.cli.start import split

__all__ = ["configure", "run", "split"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")
    parser.add_argument("--yes", action="store_true", help="do not ask before starting")
    parser.add_argument(
        "--detach", action="store_true", help="start the bottle, print its slug, and leave it running"
    )
    parser.epilog = "What stands after -- goes to claude."


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.cli.launching import refuse_arguments, show_preflight
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.resume import prepare_resume, resume

    arguments = refuse_arguments(options.rest)
    context = system_context()
    offer = prepare_resume(context, options.slug)
    if not options.detach:
        from claude_bottle.cli.attaching import refuse_without_terminal

        refuse_without_terminal("add --detach")
    show_preflight(screen, offer.prepared)
    for index, change in enumerate(offer.changes):
        screen.pair("" if index else "changed", f"{change.how:<8}{change.label}: {change.text}")
    for note in offer.notes:
        screen.say(note)
    if not screen.confirm("Start it again?", options.yes):
        return 0
    launched, problems = resume(context, offer, screen.step, screen.ask)
    for problem in problems:
        screen.say(problem)
    from claude_bottle.operations.session.claude import Asked, remember

    always = tuple(offer.prepared.claude_arguments)
    first = (*launched.claude_arguments[len(always) :], *arguments)
    remember(launched.paths, Asked(always, first, notify=launched.notify))
    if options.detach:
        screen.put(launched.metadata.slug)
        return 0
    from claude_bottle.cli.attaching import attend

    return attend(context, screen, launched.metadata)
