"""What is wrong with a manifest: every problem with its place, collected and raised together.

Invariant: the text of a problem is safe to print. A key, a name or a path of a file that
someone else wrote is shown escaped and shortened, and values are never echoed at all: one
of them may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from claude_bottle.errors import EXIT_USAGE, BottleError

KeyPath = tuple[str | int, ...]

_LINES_SHOWN = 50


class Position(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{show(self.file, 4096)}:{self.line}:{self.column}"


Positions = Mapping[KeyPath, Position]


class Problem(NamedTuple):
    """One mistake: `where` is FILE:LINE:COL or "", `key_path` such as bottles.dev.egress.routes[0].host."""

    where: str
    key_path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = ": ".join(part for part in (self.where, self.key_path, self.message) if part)
        return f"{place}; {self.hint}" if self.hint else place


class ManifestError(BottleError):
    """The manifest cannot be used; nothing of it is."""

    exit_code = EXIT_USAGE

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:_LINES_SHOWN]]
        if (more := len(self.problems) - _LINES_SHOWN) > 0:
            lines.append(f"and {more} more")
        super().__init__("\n".join(lines))


class Report:
    """Collects problems while a manifest is read."""

    def __init__(self, positions: Positions | None = None) -> None:
        self._positions: Positions = positions if positions is not None else {}
        self.problems: list[Problem] = []

    def add(self, path: KeyPath, message: str, hint: str = "") -> None:
        position = self.position(path)
        self.problems.append(Problem(str(position) if position else "", dotted(path), message, hint))

    def position(self, path: KeyPath) -> Position | None:
        """Where `path` is written, or else the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if position := self._positions.get(path[:length]):
                return position
        return None

    def origin(self, path: KeyPath) -> str:
        """file:line for a value's `origin`, or "" where it is not known."""
        position = self.position(path)
        return f"{show(position.file, 4096)}:{position.line}" if position else ""


def dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{show(part)}"
    return text.removeprefix(".")


def show(text: str, limit: int = 60) -> str:
    """Printable, on one line, and not long; escapes, controls and bidi marks become visible."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint: the closest of the known words, or else all of them."""
    from difflib import get_close_matches

    words = [show(entry) for entry in sorted(known)]
    close = get_close_matches(word[:100], words, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known: {', '.join(words)}" if words and len(words) <= 20 else ""
