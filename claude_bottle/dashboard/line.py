"""One line of text: the header, the titles of the panes, the status, the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from claude_bottle.dashboard.paint import cell_len, fitted, plain
from claude_bottle.dashboard.rows import TONES, Part

_BETWEEN = "  "


class Line(Widget):
    """Parts in their tones. A click on one is told by its number, where anybody wants to know."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line--{tone}" for tone in TONES if tone}
    DEFAULT_CSS = """
    Line {
        height: 1;
        padding: 0 1;
        & .line--muted { color: $text-muted; }
        & .line--strong { text-style: bold; }
        & .line--good { color: $text-success; }
        & .line--busy { color: $text-primary; }
        & .line--warn { color: $text-warning; text-style: bold; }
        & .line--bad { color: $text-error; text-style: bold; }
    }
    """

    def __init__(self, *, id: str, clicked: Callable[[int], None] | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._parts: tuple[Part, ...] = ()
        self._clicked = clicked

    @property
    def parts(self) -> tuple[Part, ...]:
        return self._parts

    def show(self, parts: Sequence[Part]) -> None:
        if self._parts != tuple(parts):
            self._parts = tuple(parts)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y:
            return Strip.blank(width, self.rich_style)
        line = Text(end="")
        for at, part in enumerate(self._parts):
            line.append(_BETWEEN if at else "")
            line.append_text(plain(part.text, self._style(part.tone), limit=1000))
        return Strip(fitted(line, width).render(self.app.console), width).apply_style(self.rich_style)

    def _style(self, tone: str) -> Style | str:
        return self.get_component_rich_style(f"line--{tone}", partial=True) if tone else ""

    def on_click(self, event: events.Click) -> None:
        if self._clicked is None:
            return
        begins, at = 0, event.get_content_offset(self)
        for number, part in enumerate(self._parts):
            ends = begins + cell_len(part.text)
            if at is not None and begins <= at.x < ends:
                self._clicked(number)
                return
            begins = ends + len(_BETWEEN)
