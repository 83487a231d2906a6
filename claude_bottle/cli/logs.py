"""Show what an agent said and did, or what its bottle's sidecars decided and said.

SERVICE is decisions (the default), transcript, proposals, requests (Envoy's access log), envoy or bundle.
All of it can be read of a bottle that runs, of a preserved one, and of one that is gone. proposals: a row for
each: when TAB its name TAB its state TAB what TAB why, in the agent's words TAB the answer.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from claude_bottle.cli.screen import Screen

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context

_SERVICES = ("decisions", "transcript", "proposals", "requests", "envoy", "bundle")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")
    parser.add_argument("service", nargs="?", default="decisions", choices=_SERVICES)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines are added, until Ctrl-C")
    parser.add_argument(
        "--json", action="store_true", help="decisions, transcript, proposals as JSON, one object a line"
    )
    parser.add_argument(
        "--capture", action="store_true", help="bring all of it into the archive now, and print where that is"
    )


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.errors import UsageError
    from claude_bottle.operations.context import reading_context

    context = reading_context()
    if options.capture:
        return _capture(context, options, screen)
    if options.follow and options.service in ("transcript", "proposals"):
        raise UsageError(f"logs {options.service} takes no -f", "leave it out, and ask again")
    if options.service == "transcript":
        return _transcript(context, options, screen)
    if options.service == "proposals":
        return _proposals(context, options, screen)
    return _log(context, options, screen)


def _capture(context: Context, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.logs import capture

    folder, problems = capture(context, options.slug)
    for problem in problems:
        screen.say(problem)
    screen.put(str(folder))
    return 1 if problems else 0


def _transcript(context: Context, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.logs import read_lines, sessions
    from claude_bottle.operations.transcript import as_json, as_lines, entries
    from claude_bottle.text import shown

    found, problems = sessions(context, options.slug)
    for problem in problems:
        screen.say(problem)
    for session in found:
        if len(found) > 1 and not options.json:
            screen.put(f"--- {shown(session.name)}")
        for entry in entries(read_lines(session.path)):
            if options.json:
                screen.put(as_json(entry, session.name))
            else:
                for line in as_lines(entry):
                    screen.put(shown(line.replace("\t", "    "), 2000))
    return 1 if problems else 0


def _proposals(context: Context, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.asked import as_fields, as_json
    from claude_bottle.operations.logs import asked

    for item in asked(context, options.slug):
        if options.json:
            screen.put_json({"slug": options.slug, **as_json(item)})
        else:
            screen.put_row(as_fields(item))
    return 0


def _log(context: Context, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.logs import follow, log_path

    path = log_path(context, options.slug, options.service)
    for line in follow(path, forever=options.follow):
        if options.service == "decisions" and not options.json:
            from claude_bottle.operations.decisions import describe, parse
            from claude_bottle.text import shown

            screen.put(shown(describe(parse(line)), 1000))
        elif screen.data_is_terminal or options.service in ("envoy", "bundle"):
            from claude_bottle.text import shown

            screen.put(shown(line, 4000))
        else:
            screen.put(line)
        if options.follow:
            screen.flush()
    return 0
