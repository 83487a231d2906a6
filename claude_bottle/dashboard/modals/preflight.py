"""What will be started, and a question. Only `y` says yes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from claude_bottle.dashboard.modals.folding import Pair, beside, paragraphs
from claude_bottle.dashboard.modals.painted import Folded, Hint, More
from claude_bottle.dashboard.modals.sheet import Clock, Sheet
from claude_bottle.dashboard.paint import plain

_HINTS = (Hint("y", "y", "yes"), Hint("n", "n", "no"), Hint("j", "j k", "scroll"))


class Preflight(Sheet[bool]):
    WIDTH = 100
    GRACE = 0.3

    def __init__(
        self,
        title: str,
        lines: Sequence[Pair],
        notes: Sequence[str],
        question: str,
        clock: Clock = time.monotonic,
    ) -> None:
        self._title = title
        pairs = [*lines, *(("note" if at == 0 else "", f"! {note}") for at, note in enumerate(notes))]
        body = Folded(lambda width: beside(pairs, width))
        asked = Folded(lambda width: paragraphs([f"{question} [y/N]"], width, "bold"))
        super().__init__(body, (More(body), asked), _HINTS, clock)

    def heading(self, width: int) -> list[Text]:
        return [plain(self._title, "bold"), plain("")]

    def pressed(self, key: str, character: str | None) -> None:
        if key in ("y", "Y"):
            self.dismiss(True)
        elif key in ("n", "N", "enter", "escape"):
            self.dismiss(False)
        else:
            super().pressed(key, character)
