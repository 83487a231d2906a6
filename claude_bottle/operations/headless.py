"""`run`: one prompt, no terminal, then hand-over and teardown."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Bottle
from claude_bottle.errors import UsageError
from claude_bottle.proc import Command, Runner, TimeOver

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context
    from claude_bottle.operations.launch import Launched
    from claude_bottle.state.paths import BottlePaths

_REBUILD_SECONDS = 60.0
_OUTPUT_BYTES = 64 << 20


class Answer(NamedTuple):
    """What claude said: its exit status, its final text, and its own JSON where it gave one."""

    status: int
    text: str
    result: dict[str, Any] | None
    complaint: str


def ask_claude(runner: Runner, bottle: Bottle, arguments: list[str], prompt: str, timeout: float) -> Answer:
    """Raises TimeOver, or BottleError where the output is endless. The prompt is its standard input."""
    argv = bottle.claude_argv([*arguments, "--print", "--output-format", "json"], tty=False)
    command = Command(
        tuple(argv), stdin=prompt.encode(), timeout=timeout, limit=_OUTPUT_BYTES, keep=bottle.variables
    )
    done = runner.run(command)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = None
    if not isinstance(result, dict):
        return Answer(done.status or 1, done.text, None, done.complaint)
    text = result.get("result")
    return Answer(
        done.status, text if isinstance(text, str) else "", result, done.complaint if done.status else ""
    )


def converse(context: Context, launched: Launched, prompt: str, timeout: float) -> tuple[Answer, Bottle]:
    """Claude's last answer, and the bottle that it comes from: the one that was launched may be rebuilt.

    Raises as `ask_claude` does.
    """
    from claude_bottle.operations.rebuild import message
    from claude_bottle.operations.session.claude import launch_mark
    from claude_bottle.state import additions, store

    paths, deadline = launched.paths, time.monotonic() + timeout
    bottle, arguments = launched.bottle, launched.claude_arguments
    while True:
        mark, before = launch_mark(paths), additions.load(paths)
        left = deadline - time.monotonic()
        try:
            answer = ask_claude(context.runner, bottle, arguments, prompt, max(1.0, left))
        except TimeOver as error:
            late = f"claude did not end within {timeout:g} s"
            raise TimeOver(late, "give it more: --timeout 2h") from error
        _await_rebuild(paths, mark)
        with store.locked(paths):
            again = load_backend(launched.metadata.backend).find(launched.metadata, paths)
            if launch_mark(paths) == mark or again is None:
                return answer, bottle
            new = additions.load(paths).without(before)
        bottle, arguments = again, [*launched.claude_arguments, "--continue"]
        prompt = message(new, "" if new else "it failed")


def _await_rebuild(paths: BottlePaths, mark: bytes) -> None:
    """Claude may have ended because it heard that it will be resumed; then the bottle goes any moment."""
    from claude_bottle.operations.session.claude import launch_mark

    deadline = time.monotonic() + _REBUILD_SECONDS
    while paths.rebuild.exists() and launch_mark(paths) == mark and time.monotonic() < deadline:
        time.sleep(0.1)


def seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `2h`. Raises UsageError."""
    factors = {"s": 1, "m": 60, "h": 3600}
    number, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    if not (number.isascii() and number.isdigit() and len(number) < 8) or int(number) == 0:
        raise UsageError(f"{text!r} is no time", "such as 90s, 10m or 2h")
    return int(number) * factor
