"""Take an agent's work into this repository as refs/bottles/SLUG/..., where nothing looks by itself."""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("slug")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.errors import EXIT_FAILED, EXIT_OK
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.work import pull

    _, work = pull(system_context(), options.slug, screen.step)
    if options.json:
        refs = [{"ref": ref, "commit": commit} for ref, commit in work.refs]
        screen.put_json({"slug": options.slug, "work": refs, "problems": [work.lacks] if work.lacks else []})
    else:
        for ref, commit in work.refs:
            screen.put_row((commit, ref))
    if work.lacks:
        screen.say(work.lacks)
        return EXIT_FAILED
    if not work.refs:
        screen.say(f"{options.slug} has changed nothing yet")
    return EXIT_OK
