"""What a modal is made of: lines of text, of which only those on the screen are made and drawn.

Invariant: a line is cut to the cells that there are, with a "…" where something is missing. No scroll bar:
how much there is to see is said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from claude_bottle.dashboard.paint import cell_len, fitted, joined, plain
from claude_bottle.text import plural


class Painted(ScrollView, can_focus=False):
    DEFAULT_CSS = """
    Painted {
        width: 1fr; height: 1fr; overflow: hidden auto; background: transparent;
        scrollbar-size: 0 0;
    }
    """
    ALLOW_SELECT: ClassVar[bool] = False

    def height_for(self, width: int) -> int:
        """How many lines there are."""
        raise NotImplementedError

    def line_at(self, y: int, width: int) -> Text:
        raise NotImplementedError

    def settle(self, width: int) -> int:
        """After a change of what it shows or of its width; how many lines there are now."""
        height = self.height_for(width)
        self.virtual_size = Size(width, height)
        self.refresh()
        return height

    def go(self, y: int) -> None:
        self.scroll_to(y=max(0, y), animate=False, immediate=True)

    def go_by(self, lines: int) -> None:
        self.go(round(self.scroll_y) + lines)

    @property
    def top(self) -> int:
        return round(self.scroll_y)

    @property
    def below(self) -> int:
        """Lines that stand below the last one on the screen."""
        return max(0, self.virtual_size.height - self.top - self.size.height)

    def render_line(self, y: int) -> Strip:
        width, at = self.size.width, y + self.top
        base = self.rich_style
        if at >= self.virtual_size.height:
            return Strip.blank(width, base)
        text = fitted(self.line_at(at, width), width)
        return Strip(text.render(self.app.console), width).apply_style(base)


class Folded(Painted):
    """A handful of lines that depend on the width."""

    def __init__(self, fold: Callable[[int], Sequence[Text]]) -> None:
        super().__init__()
        self._fold = fold
        self._lines: Sequence[Text] = ()

    def height_for(self, width: int) -> int:
        self._lines = self._fold(width)
        return len(self._lines)

    def line_at(self, y: int, width: int) -> Text:
        return self._lines[y] if y < len(self._lines) else plain("")


class More(Painted):
    """A line across, which tells how much of the body stands below and above."""

    def __init__(self, body: Painted) -> None:
        super().__init__()
        self._body = body

    def height_for(self, width: int) -> int:
        return 1

    def line_at(self, y: int, width: int) -> Text:
        below, above = self._body.below, self._body.top
        words = [f"{plural(below, 'more line')} below"] if below else []
        words += [f"{above} above"] if above else []
        said = f" {', '.join(words)} " if words else ""
        return plain(f"──{said}{'─' * max(0, width - 2 - cell_len(said))}", "bold" if below else "dim", width)


class Hint(NamedTuple):
    """A key, as Textual names it and as it is written, and what it does now."""

    key: str
    name: str
    word: str


class Spot(NamedTuple):
    key: str
    start: int
    end: int


def placed(hints: Sequence[Hint], width: int) -> list[list[Spot]]:
    """Side by side, in as many rows as they need."""
    rows: list[list[Spot]] = [[]]
    for hint in hints:
        size = cell_len(f"{hint.name} {hint.word}")
        start = rows[-1][-1].end + 3 if rows[-1] else 0
        if rows[-1] and start + size > width:
            rows.append([])
            start = 0
        rows[-1].append(Spot(hint.key, start, start + size))
    return rows


class Hints(Painted):
    """The keys that apply now; a click on one is the key. Asleep they are not shown, and take no click."""

    class Chosen(Message):
        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, hints: Sequence[Hint]) -> None:
        super().__init__()
        self.hints = tuple(hints)
        self.awake = True
        self._rows: list[list[Spot]] = []

    def height_for(self, width: int) -> int:
        self._rows = placed(self.hints, width)
        return len(self._rows)

    def line_at(self, y: int, width: int) -> Text:
        if not self.awake or y >= len(self._rows):
            return plain("")
        named = {hint.key: hint for hint in self.hints}
        parts = [named[spot.key] for spot in self._rows[y]]
        return joined((joined((plain(part.name, "bold"), plain(part.word, "dim"))) for part in parts), "   ")

    def on_click(self, event: events.Click) -> None:
        event.stop()
        row = self._rows[event.y] if self.awake and event.y < len(self._rows) else []
        for spot in row:
            if spot.start <= event.x < spot.end:
                self.post_message(self.Chosen(spot.key))
