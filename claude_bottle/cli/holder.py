"""The process that holds claude's terminal: started by the first who attaches, it outlives them all.

What `start` would do when claude ends it does, whether or not anybody is attached, and its viewers see the
words. It talks to who started it in one JSON line; then it is on its own, in a session of its own.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from claude_bottle.errors import EXIT_FAILED, BottleError

if TYPE_CHECKING:
    from pathlib import Path

    from claude_bottle.operations.context import Context
    from claude_bottle.operations.notify import Watch
    from claude_bottle.operations.session.holder import Program, Size
    from claude_bottle.state.metadata import Metadata

_ENDED_OUTSIDE = 143  # as of a program that was told to end


def start(_: list[str]) -> NoReturn:
    spec = json.loads(sys.stdin.read())
    try:
        said = _hold(spec)
    except BottleError as error:
        said = {"error": error.message, "hint": error.hint, "status": error.exit_code}
    except OSError as error:
        said = {"error": f"claude's terminal did not start: {error}"}
    _say(said)
    os._exit(0)


def _hold(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns only where there is nothing to hold. Raises BottleError, OSError."""
    from pathlib import Path

    from claude_bottle.operations.context import Context
    from claude_bottle.operations.session import door
    from claude_bottle.operations.session.claude import launch_mark
    from claude_bottle.operations.session.holder import Holder, Size
    from claude_bottle.proc import SystemRunner
    from claude_bottle.state import store
    from claude_bottle.state.paths import Home

    home = Home(Path(spec["home"]))
    context = Context(home, SystemRunner(), os.environ, Path("/"))
    metadata = store.load(home, spec["slug"])
    paths = home.bottle(metadata.slug)
    lock = door.take_lock(paths.session)
    if lock is None:
        return {"ready": False}
    size = Size(*spec["size"])
    with store.locked(paths):  # a bottle that is being launched was not proved yet
        mark, program = launch_mark(paths), _run_claude(context, metadata, size)
    listener = door.listen(paths.session)
    _say({"ready": True})
    _let_go(paths.logs)
    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    holder = Holder(listener, program, size, bell)
    watching = _watch(context, metadata, bell)
    status = holder.serve()
    watching.stop()
    holder.farewell(*_settled(context, metadata, mark, status))
    os._exit(0)


def _watch(context: Context, metadata: Metadata, bell: int) -> Watch:
    """Whoever is attached hears a bell when the agent asks; the operator's command is run whoever is."""
    from claude_bottle.operations.notify import watch
    from claude_bottle.operations.session import claude

    def complain(text: str) -> None:
        os.write(2, f"{text}\n".encode())  # the session's own log by now

    asked = claude.recall(context.home.bottle(metadata.slug))
    return watch(context, metadata, asked.notify, complain, lambda notice: os.eventfd_write(bell, 1))


def _run_claude(context: Context, metadata: Metadata, size: Size) -> Program:
    from claude_bottle.backend import load_backend
    from claude_bottle.operations.session import claude
    from claude_bottle.operations.session.holder import spawn

    paths = context.home.bottle(metadata.slug)
    bottle = load_backend(metadata.backend).find(metadata, paths)
    if bottle is None:
        raise BottleError(f"{metadata.slug} is not running", f"claude-bottle resume {metadata.slug}")
    asked = claude.recall(paths)
    program = spawn(bottle.command(claude.inner_command(asked), tty=True), size)
    claude.remember(paths, asked._replace(begun=True))
    return program


def _settled(context: Context, metadata: Metadata, mark: bytes, status: int) -> tuple[str, int | None]:
    """The end of the bottle, if it is still the same; what is to be said of it, and the status.

    No status where the bottle was launched again meanwhile: then claude goes on, and so may who looks.
    """
    from claude_bottle.backend import load_backend
    from claude_bottle.cli.launching import report
    from claude_bottle.cli.screen import Screen
    from claude_bottle.operations.session.claude import launch_mark
    from claude_bottle.operations.settle import settle
    from claude_bottle.state import store

    paths = context.home.bottle(metadata.slug)
    why = f"claude ended with status {status}"
    talk = io.StringIO()
    screen = Screen(io.StringIO(), talk)
    try:
        with store.locked(paths):  # who stops it has it until all is done
            same = launch_mark(paths) == mark
            bottle = load_backend(metadata.backend).find(metadata, paths) if paths.root.is_dir() else None
        if not same and bottle is not None:
            return f"{metadata.slug} was launched again", None
        if bottle is None:
            screen.say(f"{metadata.slug} was stopped, or has died")
            status = _ENDED_OUTSIDE
        if same:
            report(screen, settle(context, metadata, bottle, keep=status != 0, why=why))
    except (BottleError, OSError) as error:
        screen.say(f"{metadata.slug} was not settled: {error}")
        status = status or EXIT_FAILED
    return talk.getvalue(), status


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _let_go(logs: Path) -> None:
    """Of the one who started this; what goes wrong from now on is told to a file."""
    logs.mkdir(mode=0o700, exist_ok=True)
    log_file = os.open(
        logs / "session.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number, to in ((0, nothing), (1, nothing), (2, log_file)):
        os.dup2(to, number)
