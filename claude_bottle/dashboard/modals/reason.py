"""A line of text in the operator's own words. It may be empty."""

from __future__ import annotations

from rich.text import Text

from claude_bottle.dashboard.modals.folding import paragraphs, written
from claude_bottle.dashboard.modals.painted import Folded, Hint
from claude_bottle.dashboard.modals.sheet import BACK, Sheet
from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import plain

_HINTS = (Hint("enter", "Enter", "sends it"), BACK)


class Reason(Sheet[str]):
    def __init__(self, title: str, label: str, limit: int) -> None:
        self._title, self._label = title, label
        self._typed = Typed(limit)
        left = Folded(lambda width: [plain("─" * width, "dim"), plain(self._left(), "dim")])
        super().__init__(Folded(lambda width: written(self._typed, width)), (left,), _HINTS)

    def heading(self, width: int) -> list[Text]:
        return [plain(self._title, "bold"), *paragraphs([self._label], width, "dim")]

    def _left(self) -> str:
        return f"{len(self._typed.text)} of {self._typed.limit} characters"

    def pressed(self, key: str, character: str | None) -> None:
        if key == "enter":
            self.dismiss(self._typed.text)
        elif key == "escape":
            self.dismiss(None)
        elif (typed := self._typed.keyed(key, character)) is not None:
            self._write(typed)

    def pasted(self, text: str) -> None:
        self._write(self._typed.put(text))

    def _write(self, typed: Typed) -> None:
        self._typed = typed
        self.refit()
        rows = written(typed, max(1, self.body.size.width))
        here = next(at for at, row in enumerate(rows) if row.spans)
        self.body.go(max(0, here - self.body.size.height + 1))
