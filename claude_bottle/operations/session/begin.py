"""Starts the process that holds claude's terminal (`cli.holder`), from a terminal or without any.

Invariant: it is a process of its own: nothing of this one's terminal, and of its environment only what the
backend, git and the command that notifies need.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_bottle.errors import EXIT_FAILED, BottleError

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context
    from claude_bottle.state.metadata import Metadata

START_SECONDS = 60.0
_AGAIN_SECONDS = 0.05
_UNSEEN = (40, 120)  # rows and columns where nobody looks yet


def environment(metadata: Metadata, host: Mapping[str, str]) -> dict[str, str]:
    """Of the operator's, what the backend and git need and claude must know of the terminal; no secret."""
    from claude_bottle.backend import load_backend
    from claude_bottle.operations.notify import DESKTOP
    from claude_bottle.proc import Command, environment_for

    keep = ("TERM", "COLORTERM", *DESKTOP, *load_backend(metadata.backend).variables)
    return environment_for(Command((), keep=keep), host)


def start_unseen(context: Context, metadata: Metadata) -> None:
    """Claude runs in its terminal, whether or not anybody comes to look. Raises BottleError."""
    deadline = time.monotonic() + START_SECONDS
    while not start_holder(context, metadata, _UNSEEN):
        # That of the bottle's earlier life says its last words, or a viewer has been quicker.
        if _is_held(context, metadata):
            return
        if time.monotonic() > deadline:
            raise BottleError(f"the terminal of {metadata.slug} does not end")
        time.sleep(_AGAIN_SECONDS)


def _is_held(context: Context, metadata: Metadata) -> bool:
    """Whether claude was begun, as was asked for since this bottle was launched."""
    from claude_bottle.operations.session.claude import recall

    return recall(context.home.bottle(metadata.slug)).begun


def start_holder(context: Context, metadata: Metadata, size: tuple[int, int]) -> bool:
    """False where there is one. Raises BottleError."""
    from claude_bottle.backend.python import PACKAGE_ROOT, python_argv

    spec = {"home": str(context.home.root), "slug": metadata.slug, "size": size}
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
    said, deadline = b"", time.monotonic() + START_SECONDS
    with process.stdout as output:
        while select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(output.fileno(), 65536)
            if not part:
                return said
            said += part
    raise BottleError(f"claude's terminal said nothing for {START_SECONDS:.0f} s")


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
