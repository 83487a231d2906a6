"""A value that a bottle needs from the operator. What is typed is not shown."""

from __future__ import annotations

import time

from rich.text import Text

from claude_bottle.dashboard.modals.folding import paragraphs
from claude_bottle.dashboard.modals.painted import Folded, Hint
from claude_bottle.dashboard.modals.sheet import BACK, Clock, Sheet
from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import plain

_HINTS = (Hint("enter", "Enter", "gives it"), Hint("ctrl+u", "Ctrl-U", "begins again"), BACK)
_LIMIT = 16_384  # characters, of a key in one line


class Ask(Sheet[str]):
    WIDTH = 64
    GRACE = 0.3

    def __init__(self, question: str, clock: Clock = time.monotonic) -> None:
        self._question = question
        self._typed = Typed(_LIMIT)
        super().__init__(Folded(lambda width: [plain(self._state(), "dim")]), (), _HINTS, clock)

    def heading(self, width: int) -> list[Text]:
        return paragraphs([self._question], width, "bold")

    def _state(self) -> str:
        return "something is typed; it is not shown" if self._typed.text else "what you type is not shown"

    def pressed(self, key: str, character: str | None) -> None:
        if key in ("enter", "escape"):
            answer, self._typed = self._typed.text, Typed(_LIMIT)
            self.dismiss(answer if key == "enter" else None)
        elif (typed := self._typed.keyed(key, character)) is not None:
            self._typed = typed
            self.refit()

    def pasted(self, text: str) -> None:
        self._typed = self._typed.put(text)
        self.refit()
