"""A list of rows with a cursor that belongs to a row, not to a place.

Theory. Only the lines that are seen are ever drawn, and a line is drawn again only when its row, the widths
or the cursor on it has changed; so a refresh that changes nothing costs nothing, and nothing flickers.

Invariant: `selected` is the key of one of `rows`, or None where there is none. The cursor is drawn only where
the list has the focus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from claude_bottle.dashboard.paint import fitted, plain
from claude_bottle.dashboard.rows import TONES, Column, Part, Row, widths
from claude_bottle.dashboard.selection import kept, moved

_MARK = 2  # cells in front of a row


class Table(ScrollView, can_focus=True):
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"table--{tone}" for tone in TONES if tone),
        "table--cursor",
        "table--empty",
    }
    DEFAULT_CSS = """
    Table {
        background: $surface;
        color: $foreground;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        & .table--muted { color: $text-muted; }
        & .table--strong { text-style: bold; }
        & .table--good { color: $text-success; }
        & .table--busy { color: $text-primary; }
        & .table--warn { color: $text-warning; }
        & .table--bad { color: $text-error; text-style: bold; }
        & .table--empty { color: $text-muted; }
        & .table--cursor { text-style: reverse; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", show=False),
        Binding("down,j", "step(1)", show=False),
        Binding("g,home", "step(-1000000)", show=False),
        Binding("G,end", "step(1000000)", show=False),
        Binding("pageup,ctrl+b", "page(-1)", show=False),
        Binding("pagedown,ctrl+f", "page(1)", show=False),
    ]

    class Selected(Message):
        """The cursor is on another row; `moved` where the operator has put it there."""

        def __init__(self, *, moved: bool) -> None:
            super().__init__()
            self.moved = moved

    class Opened(Message):
        """A row was clicked twice."""

    def __init__(self, columns: Sequence[Column], empty: str, *, id: str) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._columns = columns
        self._empty = empty
        self._rows: tuple[Row, ...] = ()
        self._widths: tuple[int, ...] = ()
        self._selected: str | None = None
        self._drawn: dict[tuple[Row, bool], Strip] = {}

    @property
    def selected(self) -> str | None:
        return self._selected

    @property
    def rows(self) -> tuple[Row, ...]:
        return self._rows

    def show(self, rows: Sequence[Row], empty: str = "") -> None:
        """These rows from now on; where there are none, the words for it."""
        before, self._rows = self._rows, tuple(rows)
        said, self._empty = self._empty, empty or self._empty
        self._set(kept([row.key for row in before], self.keys, self._selected))
        if before == self._rows and said == self._empty:
            return
        self.virtual_size = Size(max(1, self.size.width), len(self._rows))
        if self._measure() or len(before) != len(self._rows):
            self.refresh()
            return
        for at, (old, new) in enumerate(zip(before, self._rows, strict=True)):
            if old != new:
                self._refresh_line(at)

    def select(self, key: str | None) -> None:
        """Moves the cursor there, if there is such a row."""
        if key in self.keys:
            self._set(key)

    @property
    def keys(self) -> list[str]:
        return [row.key for row in self._rows]

    def action_step(self, rows: int) -> None:
        self._set(moved(self.keys, self._selected, rows), by_hand=True)

    def action_page(self, pages: int) -> None:
        self.action_step(pages * max(1, self.size.height - 1))

    def _set(self, key: str | None, *, by_hand: bool = False) -> None:
        before, self._selected = self._selected, key
        if before == key:
            return
        for each in (before, key):
            if each in self.keys:
                self._refresh_line(self.keys.index(each))
        if key is not None:
            self._reveal(self.keys.index(key))
        self.post_message(self.Selected(moved=by_hand))

    def _reveal(self, at: int) -> None:
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if at < top:
            self.scroll_to(y=at, animate=False, immediate=True)
        elif at >= top + height:
            self.scroll_to(y=at - height + 1, animate=False, immediate=True)

    def _refresh_line(self, at: int) -> None:
        self.refresh(Region(0, at - self.scroll_offset.y, self.size.width, 1))

    def _measure(self) -> bool:
        """Whether the columns have other widths now."""
        found = widths(self._columns, self._rows, self.size.width - _MARK)
        if found == self._widths:
            return False
        self._widths = found
        self._drawn.clear()
        return True

    def on_resize(self) -> None:
        self.virtual_size = Size(max(1, self.size.width), len(self._rows))
        self._measure()
        self._drawn.clear()
        if self._selected is not None:
            self._reveal(self.keys.index(self._selected))
        self.refresh()

    def notify_style_update(self) -> None:
        self._drawn.clear()
        super().notify_style_update()

    def on_focus(self) -> None:
        self._redraw_cursor()

    def on_blur(self) -> None:
        self._redraw_cursor()

    def _redraw_cursor(self) -> None:
        if self._selected is not None:
            self._refresh_line(self.keys.index(self._selected))

    def on_click(self, event: events.Click) -> None:
        at = event.y + self.scroll_offset.y
        if 0 <= at < len(self._rows):
            self._set(self._rows[at].key, by_hand=True)
            if event.chain == 2:
                self.post_message(self.Opened())

    def render_line(self, y: int) -> Strip:
        at, width = y + self.scroll_offset.y, self.size.width
        if at >= len(self._rows):
            return self._blank(at, width)
        row = self._rows[at]
        cursor = self.has_focus and row.key == self._selected
        drawn = self._drawn.get((row, cursor))
        if drawn is None:
            if len(self._drawn) > 4 * max(50, len(self._rows)):
                self._drawn.clear()
            drawn = self._drawn[row, cursor] = self._draw(row, cursor)
        return drawn.crop(0, width)

    def _blank(self, at: int, width: int) -> Strip:
        if at or self._rows:
            return Strip.blank(width, self.rich_style)
        return self._strip(plain(f"  {self._empty}", limit=500), "table--empty")

    def _draw(self, row: Row, cursor: bool) -> Strip:
        line = Text("*" if row.beside else " ", "bold" if row.beside else "", end="")
        for cell, column, width in zip(row.cells, self._columns, self._widths, strict=True):
            if width:
                line.append(" ")
                line.append_text(fitted(self._painted(cell, bold=row.beside), width, right=column.right))
        return self._strip(line, "table--cursor" if cursor else "")

    def _strip(self, line: Text, look: str) -> Strip:
        width, style = self.size.width, self.rich_style
        if look:
            style += self.get_component_rich_style(look, partial=True)
        return Strip(fitted(line, width).render(self.app.console), width).apply_style(style)

    def _painted(self, cell: Part, *, bold: bool) -> Text:
        if not cell.tone:
            return plain(cell.text, "bold" if bold else "")
        style = self.get_component_rich_style(f"table--{cell.tone}", partial=True)
        text = plain(cell.text)
        text.stylize(style)
        if bold:
            text.stylize("bold")
        return text
