"""Every key, and what it does."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from claude_bottle.dashboard.modals.folding import Pair, beside, column_of, paragraphs
from claude_bottle.dashboard.modals.painted import Folded, Hint, More
from claude_bottle.dashboard.modals.sheet import BACK, Sheet
from claude_bottle.dashboard.paint import plain

_HINTS = (Hint("j", "j k", "scroll"), BACK)


class Help(Sheet[None]):
    def __init__(self, sections: Sequence[tuple[str, Sequence[Pair]]]) -> None:
        self._sections = sections
        body = Folded(self._lines)
        super().__init__(body, (More(body),), _HINTS)

    def heading(self, width: int) -> list[Text]:
        return [plain("Keys", "bold")]

    def _lines(self, width: int) -> list[Text]:
        column = column_of(pair for _, keys in self._sections for pair in keys)
        lines: list[Text] = []
        for name, keys in self._sections:
            lines += [
                plain(""),
                *paragraphs([name], width, "bold underline"),
                *beside(keys, width, None, column),
            ]
        return lines

    def pressed(self, key: str, character: str | None) -> None:
        if key in ("q", "?", "enter"):
            self.dismiss(None)
        else:
            super().pressed(key, character)
