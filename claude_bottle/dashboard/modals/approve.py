"""A proposal, all of it, and for how long it is allowed. Only `y` allows it.

Invariant: what is grave stands fixed above the question, however long the rest is, and the answer holds what
the command line takes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from claude_bottle.dashboard.modals.bounds import CHOICES, Bounds, Choice, Chosen, choice_of, named, taken
from claude_bottle.dashboard.modals.folding import LIMIT, Pair, beside, written
from claude_bottle.dashboard.modals.painted import Folded, Hint, More
from claude_bottle.dashboard.modals.sheet import BACK, Clock, Sheet
from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import fitted, joined, plain

_GRAVE, _PINNED = "!!", 3
_COLUMNS = (30, 26)  # cells
_HINTS = (Hint("y", "y", "allows it"), Hint("j", "j k", "scroll"), BACK)
_WRITING = (Hint("enter", "Enter", "takes it"), Hint("escape", "Esc", "back to the choice"))


def style_of(label: str, text: str) -> str:
    """Only our own marks count: what an agent wrote has a bar in front, and stands beside another label."""
    if label == "refused" or (label == "look" and text.startswith(_GRAVE)):
        return "bold red"
    return "green" if label == "would add" and text.startswith("+") else ""


def grave_of(lines: Sequence[Pair]) -> list[str]:
    found: list[str] = []
    of = ""
    for label, text in lines:
        of = label or of
        if of == "look" and text.startswith(_GRAVE):
            found.append(text)
        elif of == "refused":
            found.append(f"{_GRAVE} refused: {text}")
    return found


class Approve(Sheet[Bounds]):
    WIDTH = 110
    TALL = True
    GRACE = 0.3

    def __init__(self, lines: Sequence[Pair], capability: bool, clock: Clock = time.monotonic) -> None:
        self._capability = capability
        self._chosen = Chosen()
        self._writing: tuple[str, Typed] | None = None  # the key of the choice, and what is written for it
        self._fault = ""
        self._grave = grave_of(lines)
        body = Folded(lambda width: beside(lines, width, style_of))
        super().__init__(body, (More(body), Folded(self._pinned), Folded(self._question)), _HINTS, clock)

    def heading(self, width: int) -> list[Text]:
        return [
            plain("Approve an addition to the bottle" if self._capability else "Approve a way out", "bold")
        ]

    def _pinned(self, width: int) -> list[Text]:
        more = len(self._grave) - _PINNED
        kept = self._grave if more <= 0 else self._grave[: _PINNED - 1]
        lines = [plain(text, "bold red", LIMIT) for text in kept]
        if more > 0:
            lines.append(plain(f"{_GRAVE} and {more + 1} more above", "bold red"))
        return lines

    def _question(self, width: int) -> list[Text]:
        if self._capability:
            return [plain("Build it into the bottle? Its agent is restarted. [y/N]", "bold")]
        if self._writing is not None:
            key, typed = self._writing
            choice = choice_of(key)
            asked = plain(choice.asks if choice else "", "bold")
            return [joined((asked, written(typed, 20)[0])), plain(self._fault, "bold red"), plain("")]
        lines = [self._choices(CHOICES[at : at + 3]) for at in (0, 3)]
        return [*lines, plain(f"Allow it, {self._chosen.said()}? [y/N]", "bold")]

    def _choices(self, row: Sequence[Choice]) -> Text:
        cells = [self._choice(choice) for choice in row]
        columns = [fitted(cell, width) for cell, width in zip(cells, _COLUMNS, strict=False)]
        return joined([*columns, cells[-1]], "")

    def _choice(self, choice: Choice) -> Text:
        here = choice == self._chosen.choice
        mark = plain("(•)" if here else "( )", "bold" if here else "dim")
        name = plain(named(choice, self._chosen), "bold" if here else "")
        return joined((mark, plain(choice.key, "bold"), name))

    def pressed(self, key: str, character: str | None) -> None:
        if self._writing is not None:
            self._write(*self._writing, key, character)
        elif key == "y":
            self.dismiss(Bounds(()) if self._capability else self._chosen.bounds())
        elif not self._capability and (choice := choice_of(key)) is not None:
            self._fault = ""
            if choice.asks:
                self._writing = (key, Typed(12))
            else:
                self._chosen = Chosen(choice)
            self._again()
        else:
            super().pressed(key, character)

    def _write(self, chosen: str, typed: Typed, key: str, character: str | None) -> None:
        choice = choice_of(chosen)
        if key == "escape" or choice is None:
            self._writing = None
        elif key == "enter":
            try:
                self._chosen, self._writing = taken(choice, typed.text), None
            except ValueError as error:
                self._fault = str(error)
        elif (after := typed.keyed(key, character)) is not None:
            self._writing, self._fault = (chosen, after), ""
        self._again()

    def pasted(self, text: str) -> None:
        if self._writing is not None:
            key, typed = self._writing
            self._writing, self._fault = (key, typed.put(text)), ""
            self._again()

    def _again(self) -> None:
        self.hints.hints = _HINTS if self._writing is None else _WRITING
        self.refit()
