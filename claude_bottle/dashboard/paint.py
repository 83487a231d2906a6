"""The dashboard's side of the boundary between hostile text and the screen.

Invariant: nothing else in the dashboard makes text for a widget, and nothing here reads markup: whatever it
is, it stands there as `claude_bottle.text` shows it. A style is the dashboard's own word, never data.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

from claude_bottle.text import shown, shown_lines


def plain(text: object, style: str | Style = "", limit: int = 400) -> Text:
    """One line."""
    return Text(shown(text, limit), style, no_wrap=True, overflow="ellipsis", end="")


def block(text: object, style: str | Style = "", limit: int = 200_000, lines: int = 5000) -> Text:
    """Several lines, each as it is; a widget may fold them."""
    return Text(shown_lines(text, limit, lines), style, end="")


def joined(parts: Iterable[Text], between: str = " ") -> Text:
    """One line of several parts, each in its own style."""
    return Text(between, end="").join(parts)


def fitted(text: Text, width: int, *, right: bool = False) -> Text:
    """Exactly `width` cells, wide characters counted as two."""
    text = text.copy()
    if cell_len(text.plain) > width:
        text.truncate(width, overflow="ellipsis")
    missing = max(0, width - cell_len(text.plain))
    if right:
        text.pad_left(missing)
    else:
        text.pad_right(missing)
    return text


__all__ = ["block", "cell_len", "fitted", "joined", "plain"]
