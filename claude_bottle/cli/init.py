"""Write a first bottle and a first agent. Nothing that is there already is changed."""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.init import write_first_manifest

    written, kept = write_first_manifest(system_context())
    for path in written:
        screen.put(str(path))
    for path in kept:
        screen.say(f"kept as it is: {path}")
    screen.say("next: cd into a git repository, then: claude-bottle start developer")
    return 0
