"""A line that the operator writes: its text and where the cursor stands. Pure.

Invariant: it holds printable characters only, and never more than its limit. What is pasted ends with its
first line; what cannot be seen is left out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Typed(NamedTuple):
    limit: int = 200
    text: str = ""
    at: int = 0

    def put(self, new: str) -> Typed:
        """At the cursor."""
        line = new.split("\n", 1)[0]
        kept = "".join(char for char in line[: self.limit] if char.isprintable())
        kept = kept[: self.limit - len(self.text)]
        return self._replace(text=self.text[: self.at] + kept + self.text[self.at :], at=self.at + len(kept))

    def keyed(self, key: str, character: str | None) -> Typed | None:
        """After this key; None for a key that writes and edits nothing."""
        if key in _EDITS:
            return _EDITS[key](self)
        if character is not None and len(character) == 1 and character.isprintable():
            return self.put(character)
        return None

    def cut(self, start: int, end: int) -> Typed:
        start, end = max(0, start), min(len(self.text), end)
        return self._replace(text=self.text[:start] + self.text[end:], at=start)

    def to(self, at: int) -> Typed:
        return self._replace(at=min(max(0, at), len(self.text)))


def _word_before(line: Typed) -> int:
    return len(line.text[: line.at].rstrip(" ").rpartition(" ")[0]) + (
        " " in line.text[: line.at].rstrip(" ")
    )


_EDITS: dict[str, Callable[[Typed], Typed]] = {
    "backspace": lambda line: line.cut(line.at - 1, line.at),
    "delete": lambda line: line.cut(line.at, line.at + 1),
    "left": lambda line: line.to(line.at - 1),
    "right": lambda line: line.to(line.at + 1),
    "home": lambda line: line.to(0),
    "end": lambda line: line.to(len(line.text)),
    "ctrl+a": lambda line: line.to(0),
    "ctrl+e": lambda line: line.to(len(line.text)),
    "ctrl+u": lambda line: line.cut(0, line.at),
    "ctrl+k": lambda line: line.cut(line.at, len(line.text)),
    "ctrl+w": lambda line: line.cut(_word_before(line), line.at),
}
