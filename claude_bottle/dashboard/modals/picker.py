"""One of several: type to filter, Enter takes it. Esc clears what is typed, then leaves.

Invariant: what has a refusal is never the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.message import Message

from claude_bottle.dashboard.modals.filtering import Item, Picking, picking
from claude_bottle.dashboard.modals.folding import LIMIT, paragraphs
from claude_bottle.dashboard.modals.painted import Folded, Hint, More, Painted
from claude_bottle.dashboard.modals.sheet import BACK, Sheet
from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import cell_len, fitted, joined, plain
from claude_bottle.text import shown

_HINTS = (Hint("enter", "Enter", "takes it"), Hint("up", "↑↓", "move"), BACK)


class Picker(Sheet[str]):
    WIDTH = 64

    def __init__(self, title: str, items: Sequence[Item], empty: str) -> None:
        self.rows = Rows(picking(items))
        self._title, self._empty = title, empty
        self._typed = Typed()
        self._said = ""
        below = Folded(lambda width: paragraphs([self._said], width, "bold") if self._said else ())
        super().__init__(self.rows, (More(self.rows), below), _HINTS)

    def heading(self, width: int) -> list[Text]:
        picked = self.rows.picked
        filtering = joined((plain("filter:", "dim"), plain(f"{self._typed.text}▏")))
        if not picked.items:
            return [plain(self._title, "bold"), *paragraphs([self._empty], width)]
        if not self._typed.text:
            filtering = plain("type to filter", "dim")
        elif not picked.shown:
            filtering = joined((filtering, plain("nothing has this in its name", "dim")), "  ")
        return [plain(self._title, "bold"), filtering]

    def pressed(self, key: str, character: str | None) -> None:
        if key == "enter":
            self._take()
        elif key == "escape" and self._typed.text:
            self._filter(Typed())
        elif key in _MOVES:
            self._move(_MOVES[key] * (self.rows.size.height - 1 if key.startswith("page") else 1))
        elif key == "escape":
            self.dismiss(None)
        elif (typed := self._typed.keyed(key, character)) is not None:
            self._filter(typed)

    def pasted(self, text: str) -> None:
        self._filter(self._typed.put(text))

    def on_rows_clicked(self, message: Rows.Clicked) -> None:
        message.stop()
        self.rows.pick(self.rows.picked._replace(at=message.at))
        self._take()

    def _move(self, by: int) -> None:
        self._said = ""
        self.rows.pick(self.rows.picked.moved(by))
        self.refit()

    def _filter(self, typed: Typed) -> None:
        self._typed, self._said = typed, ""
        self.rows.pick(self.rows.picked.filtered(typed.text))
        self.refit()

    def _take(self) -> None:
        item = self.rows.picked.item
        if item is None:
            return
        if not item.refusal:
            self.dismiss(item.key)
            return
        self._said = f"{shown(item.label)}: {item.refusal}"
        self.refit()


_END = 1_000_000  # more than there are
_MOVES = {
    "up": -1,
    "down": 1,
    "ctrl+p": -1,
    "ctrl+n": 1,
    "pageup": -1,
    "pagedown": 1,
    "home": -_END,
    "end": _END,
}


class Rows(Painted):
    """A line for each item that the filter leaves."""

    class Clicked(Message):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.at = at

    def __init__(self, picked: Picking) -> None:
        super().__init__()
        self.picked = picked
        self._column = max((cell_len(shown(item.label)) for item in picked.items), default=0)

    def pick(self, picked: Picking) -> None:
        self.picked = picked
        self.settle(self.size.width)
        height = max(1, self.size.height)
        self.go(min(max(self.top, picked.at - height + 1), picked.at))

    def height_for(self, width: int) -> int:
        return len(self.picked.shown)

    def line_at(self, y: int, width: int) -> Text:
        if y >= len(self.picked.shown):
            return plain("")
        item, here = self.picked.shown[y], y == self.picked.at
        style = ("dim " if item.refusal else "") + ("reverse" if here else "")
        column = min(self._column, max(1, width // 2))
        label = fitted(plain(item.label, style, LIMIT), column)
        note = " · ".join(part for part in (item.note, item.refusal) if part)
        line = joined((plain(">" if here else " ", style), label, plain(f" {shown(note, LIMIT)}", "dim")))
        line.stylize(style)
        return fitted(line, width)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        at = self.top + event.y
        if at < len(self.picked.shown):
            self.post_message(self.Clicked(at))
