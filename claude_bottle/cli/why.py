"""Why a running bottle may or may not send a request, and what would allow it.

The bottle's own judgement on the policy that is in force: the rule, where it is written or which decision
made it, and the last time that the agent tried. URL may be a host alone. Ends with 0 for allowed, 4 for
denied.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")
    parser.add_argument("url")
    parser.add_argument("-X", "--method", default="GET", metavar="METHOD", help="GET where nothing is said")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.errors import EXIT_DENIED, EXIT_OK
    from claude_bottle.operations.context import reading_context
    from claude_bottle.operations.why import as_json, as_lines, ask
    from claude_bottle.text import shown

    found = ask(reading_context(), options.slug, options.url, options.method)
    if options.json:
        screen.put_json({"slug": options.slug, **as_json(found)})
    else:
        for label, text in as_lines(found):
            screen.put(f"{shown(label):<10}  {shown(text, 2000)}")
    return EXIT_OK if found.allowed else EXIT_DENIED
