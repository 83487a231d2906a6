"""Show what a bottle's sidecars decided and said.

SERVICE is decisions (the default), requests (Envoy's access log), envoy or bundle.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")
    parser.add_argument(
        "service", nargs="?", default="decisions", choices=("decisions", "requests", "envoy", "bundle")
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines are added, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="decisions as the JSON lines that they are")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.context import reading_context
    from claude_bottle.operations.logs import follow, log_path

    context = reading_context()
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
