"""What `start` and `attach` share: this terminal, and the holder of the bottle's, started if need be."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_bottle.errors import EXIT_FAILED, EXIT_OK, BottleError, UsageError

if TYPE_CHECKING:
    from claude_bottle.cli.screen import Screen
    from claude_bottle.operations.context import Context
    from claude_bottle.state.metadata import Metadata

_START_SECONDS = 60.0
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
        if outcome.how is How.LOST:
            raise BottleError(f"the terminal of {slug} is gone", f"claude-bottle attach {slug}")
        if outcome.how is How.DETACHED:
            screen.say(f"detached from {slug}, which works on; to come back: claude-bottle attach {slug}")
            return EXIT_OK
        screen.say(f"{slug} works on; fg comes back to it")
        os.kill(0, signal.SIGTSTP)  # the whole job, as the terminal would; where nobody can go on, we go on


def _reach(context: Context, metadata: Metadata) -> socket.socket:
    """A connection to the holder. Raises BottleError where the bottle does not run."""
    from claude_bottle.operations.session.door import knock

    folder = context.home.bottle(metadata.slug).session
    deadline = time.monotonic() + _START_SECONDS
    while (connection := knock(folder)) is None:
        if time.monotonic() > deadline:
            raise BottleError(f"the terminal of {metadata.slug} does not answer", f"look at {folder}")
        if not _start_holder(context, metadata):
            time.sleep(_AGAIN_SECONDS)  # another one is there, and will answer or end
    return connection


def _start_holder(context: Context, metadata: Metadata) -> bool:
    """False where there is one. It is a process of its own, and nothing of this terminal's."""
    from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
    from claude_bottle.backend.terminal import get_size
    from claude_bottle.cli.holder import environment

    spec = {"home": str(context.home.root), "slug": metadata.slug, "size": get_size(0)}
    with open(os.memfd_create("holder"), "w+b") as complaint:
        process = subprocess.Popen(
            python_argv("cli.holder", PACKAGE_ROOT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaint,
            cwd="/",
            env=environment(metadata, context.environment),
            start_new_session=True,
        )
        try:
            said = _answer(process, json.dumps(spec).encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
        threading.Thread(target=process.wait, daemon=True).start()  # it may end while this one lives on
        complaint.seek(0)
        return _understood(said, complaint.read())


def _answer(process: subprocess.Popen[bytes], spec: bytes) -> bytes:
    """All that it says until it lets go of us. Raises BottleError where it says nothing for too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as its_input, suppress(BrokenPipeError):  # then it says why
        its_input.write(spec)
    said, deadline = b"", time.monotonic() + _START_SECONDS
    with process.stdout as output:
        while select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(output.fileno(), 65536)
            if not part:
                return said
            said += part
    raise BottleError(f"claude's terminal said nothing for {_START_SECONDS:.0f} s")


def _understood(said: bytes, complaint: bytes) -> bool:
    try:
        message: dict[str, Any] = json.loads(said)
    except ValueError as error:
        lines = complaint.decode(errors="replace").splitlines()
        raise BottleError(f"claude's terminal did not start: {lines[-1] if lines else 'no word'}") from error
    if "error" in message:
        failed = BottleError(message["error"], message.get("hint"))
        failed.exit_code = message.get("status", EXIT_FAILED)
        raise failed
    return bool(message["ready"])
