"""What `start` and `attach` share: this terminal, and the holder of the bottle's, started if need be."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from claude_bottle.errors import EXIT_OK, BottleError, UsageError

if TYPE_CHECKING:
    from claude_bottle.cli.screen import Screen
    from claude_bottle.operations.context import Context
    from claude_bottle.state.metadata import Metadata

_AGAIN_SECONDS = 0.05


def refuse_without_terminal(hint: str) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("claude needs a terminal on standard input and output", hint)


def attend(context: Context, screen: Screen, metadata: Metadata) -> int:
    """Claude on this terminal until it ends, when this is its status, or the operator leaves."""
    from claude_bottle.operations.session.viewer import How, look

    slug = metadata.slug
    while True:
        with _reach(context, metadata) as connection:
            screen.say(rf"attached to {slug}; Ctrl-\ detaches, and the agent works on")
            try:
                outcome = look(connection)
            except BaseException:  # a signal; where the terminal has gone there is nobody to tell
                with suppress(OSError):
                    screen.say(f"{slug} works on; to come back: claude-bottle attach {slug}")
                raise
        for line in outcome.words.splitlines():
            screen.say(line)
        if outcome.how is How.ENDED:
            return outcome.status
        if outcome.how is How.AGAIN:
            continue
        if outcome.how is How.LOST:
            raise BottleError(f"the terminal of {slug} is gone", f"claude-bottle attach {slug}")
        if outcome.how is How.DETACHED:
            screen.say(f"detached from {slug}, which works on; to come back: claude-bottle attach {slug}")
            return EXIT_OK
        screen.say(f"{slug} works on; fg comes back to it")
        os.kill(0, signal.SIGTSTP)  # the whole job, as the terminal would; where nobody can go on, we go on


def _reach(context: Context, metadata: Metadata) -> socket.socket:
    """A connection to the holder. Raises BottleError where the bottle does not run."""
    from claude_bottle.backend.terminal import get_size
    from claude_bottle.operations.session.begin import START_SECONDS, start_holder
    from claude_bottle.operations.session.door import knock

    folder = context.home.bottle(metadata.slug).session
    deadline = time.monotonic() + START_SECONDS
    while (connection := knock(folder)) is None:
        if time.monotonic() > deadline:
            raise BottleError(f"the terminal of {metadata.slug} does not answer", f"look at {folder}")
        if not start_holder(context, metadata, get_size(0)):
            time.sleep(_AGAIN_SECONDS)  # another one is there, and will answer or end
    return connection
