"""`run`: one prompt, no terminal, then hand-over and teardown."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from claude_bottle.backend.base import Bottle
from claude_bottle.errors import UsageError
from claude_bottle.proc import Command, Runner, TimeOver

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
    try:
        done = runner.run(command)
    except TimeOver as error:
        raise TimeOver(f"claude did not end within {timeout:g} s", "give it more: --timeout 2h") from error
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


def seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `2h`. Raises UsageError."""
    factors = {"s": 1, "m": 60, "h": 3600}
    number, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1)
    if not (number.isascii() and number.isdigit() and len(number) < 8) or int(number) == 0:
        raise UsageError(f"{text!r} is no time", "such as 90s, 10m or 2h")
    return int(number) * factor
