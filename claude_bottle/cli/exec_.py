"""Run a command inside a running bottle, as its user, in its workspace.

A terminal is given to it where this command has one (-t insists, -T forbids). The exit status is the
command's own.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-t", "--tty", action="store_true", help="with a terminal of its own")
    parser.add_argument("-T", "--no-tty", action="store_true", help="without a terminal, by pipes")
    parser.add_argument(
        "-i", "--interactive", action="store_true", help="accepted for habit: input is always passed on"
    )
    parser.add_argument(
        "-w", "--directory", metavar="DIR", default=None, help="start there instead of ~/workspace"
    )
    parser.add_argument("slug")
    parser.usage = "claude-bottle exec [-h] [-t | -T] [-w DIR] SLUG [--] COMMAND ..."


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options may stand on both sides of the slug; the command is what follows them, or `--`."""
    slug_seen, at = False, 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            return arguments[:at], arguments[at + 1 :]
        if word in ("-w", "--directory"):
            at += 1
        elif not word.startswith("-"):
            if slug_seen:
                return arguments[:at], arguments[at:]
            slug_seen = True
        at += 1
    return arguments, []


def run(options: argparse.Namespace, screen: Screen) -> int:
    import os
    import sys

    from claude_bottle.backend.base import WORKSPACE
    from claude_bottle.errors import UsageError
    from claude_bottle.operations.agents import running_bottle
    from claude_bottle.state.paths import home_from

    command = options.rest
    if not command:
        raise UsageError("there is no command to run", "claude-bottle exec SLUG -- COMMAND")
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if options.tty and not interactive:
        raise UsageError("-t needs a terminal on standard input and output")
    bottle = running_bottle(home_from(os.environ), options.slug)
    tty = interactive and not options.no_tty
    return bottle.carry(command, tty=tty, directory=options.directory or WORKSPACE)
