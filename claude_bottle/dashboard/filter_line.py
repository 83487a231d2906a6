"""The line on which the rows of a pane are filtered. There only while something is typed or filtered."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import fitted, plain

_LIMIT = 100


class FilterLine(Widget, can_focus=True):
    """`filtered` hears the letters at each key; `left` when it has lost the focus for good."""

    DEFAULT_CSS = """
    FilterLine { height: 1; padding: 0 1; display: none; background: $boost; }
    FilterLine.open { display: block; }
    """

    def __init__(self, filtered: Callable[[str], object], left: Callable[[], object], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._filtered = filtered
        self._left = left
        self._typed = Typed(_LIMIT)

    def open(self, letters: str) -> None:
        self._typed = Typed(_LIMIT).put(letters)
        self.set_class(True, "open")
        self.focus()
        self.refresh()

    def on_key(self, event: events.Key) -> None:
        if event.key in ("tab", "shift+tab"):
            return
        event.stop()
        event.prevent_default()
        if event.key == "escape":
            self._take(Typed(_LIMIT))
            self._close()
        elif event.key in ("enter", "down", "up"):
            self._close()
        elif (typed := self._typed.keyed(event.key, event.character)) is not None:
            self._take(typed)

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self._take(self._typed.put(event.text))

    def _take(self, typed: Typed) -> None:
        self._typed = typed
        self._filtered(typed.text)
        self.refresh()

    def _close(self) -> None:
        self.set_class(False, "open")
        self._left()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        line = plain(f"/{self._typed.text}")
        line.append("▏")
        return Strip(fitted(line, width).render(self.app.console), width).apply_style(self.rich_style)
