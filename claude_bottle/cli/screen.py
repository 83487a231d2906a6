"""What the operator sees: data on standard output, talk on standard error, both made safe to look at."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TextIO

from claude_bottle.errors import BottleError, UsageError
from claude_bottle.text import shown

_BOLD, _DIM, _RED, _GREEN, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[0m"


class Screen:
    """Colours only where standard error is a terminal and NO_COLOR is not set (no-color.org)."""

    def __init__(self, data: TextIO, talk: TextIO) -> None:
        self._data = data
        self._talk = talk
        self._colours = talk.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    @property
    def data_is_terminal(self) -> bool:
        return self._data.isatty()

    @property
    def is_dumb(self) -> bool:
        """A terminal on which nothing can be drawn in its place."""
        return os.environ.get("TERM", "dumb") == "dumb"

    def put(self, line: str) -> None:
        """One line of data, as it is: the caller has made it safe."""
        self._data.write(line + "\n")

    def flush(self) -> None:
        """What was put is there for a reader who waits for it."""
        self._data.flush()

    def put_row(self, fields: Iterable[object]) -> None:
        """One tab-separated row; no field can break it."""
        self.put("\t".join(shown(field) for field in fields))

    def put_json(self, obj: dict[str, Any]) -> None:
        import json

        self.put(json.dumps({"schema": 1, **obj}))

    def put_bytes(self, content: bytes) -> None:
        """Data as it is for a program; line by line through the boundary for a person."""
        if not self.data_is_terminal:
            self._data.flush()
            self._data.buffer.write(content)
            return
        for line in content.decode(errors="replace").split("\n"):
            self.put(shown(line.replace("\t", "    "), 2000))

    def say(self, text: str) -> None:
        self._talk.write(shown(text, 1000) + "\n")
        self._talk.flush()

    def pair(self, label: str, text: str, width: int = 11) -> None:
        self._talk.write(f"{self._in(_BOLD, label.ljust(width))}{shown(text, 500)}\n")

    def step(self, name: str, milliseconds: float) -> None:
        self._talk.write(self._in(_DIM, f"  {shown(name)} {milliseconds:.0f} ms") + "\n")
        self._talk.flush()

    def verdict(self, good: bool, text: str) -> None:
        mark = self._in(_GREEN, "ok  ") if good else self._in(_RED, "NO  ")
        self._talk.write(f"{mark}{shown(text, 500)}\n")

    def heading(self, text: str) -> None:
        self._talk.write(f"\n{self._in(_BOLD, shown(text))}\n")

    def error(self, error: BottleError) -> None:
        for index, line in enumerate(error.message.split("\n")):
            prefix = self._in(_RED, "claude-bottle: ") if index == 0 else "  "
            self._talk.write(f"{prefix}{shown(line, 1000)}\n")
        for line in error.hint.split("\n") if error.hint else ():
            self._talk.write(f"  {shown(line, 1000)}\n")
        self._talk.flush()

    @property
    def can_ask(self) -> bool:
        """Whether there is somebody at a terminal."""
        import sys

        return sys.stdin.isatty()

    def expect_answer(self, yes: bool) -> None:
        """Before any work is done that a question stands behind. Raises UsageError where it has no answer."""
        if not (yes or self.can_ask):
            raise UsageError("there is no terminal to ask on", "add --yes to go ahead without being asked")

    def confirm(self, question: str, yes: bool) -> bool:
        """True for `--yes` or the operator's y. Raises UsageError where nobody can be asked."""
        import sys

        self.expect_answer(yes)
        if yes:
            return True
        self._talk.write(f"{shown(question)} [y/N] ")
        self._talk.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def ask(self, question: str) -> str:
        """A value that is not echoed."""
        from getpass import getpass

        if not self.can_ask:
            raise UsageError(f"there is no terminal to ask {shown(question)!r} on", "run it in a terminal")
        return getpass(f"{shown(question)} ", stream=self._talk)

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._colours else text
