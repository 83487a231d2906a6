"""Show what an agent changed since it started, uncommitted changes included."""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")
    parser.add_argument("--stat", action="store_true", help="only how much changed in which file")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.handover import difference
    from claude_bottle.operations.work import pull

    context = system_context()
    metadata, work = pull(context, options.slug, lambda name, milliseconds: None)
    if work.lacks:
        screen.say(work.lacks)
    if not work.refs:
        screen.say(f"{options.slug} has changed nothing yet")
        return 0
    screen.put_bytes(difference(context.runner, metadata, work, *(["--stat"] if options.stat else [])))
    return 0
