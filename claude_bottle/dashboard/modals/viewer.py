"""Many lines of text: a difference, a log, a transcript, the steps of a launch.

Invariant: nothing is shown as there before it has come; an end that is not known to be one is not called so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rich.text import Text

from claude_bottle.dashboard.modals.folding import paragraphs
from claude_bottle.dashboard.modals.painted import Folded, Hint, Painted
from claude_bottle.dashboard.modals.searching import line_with, marked, pattern_of
from claude_bottle.dashboard.modals.sheet import Sheet
from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import cell_len, fitted, joined, plain

_HINTS = (
    Hint("j", "j k", "scroll"),
    Hint("l", "h l", "sideways"),
    Hint("G", "g G", "ends"),
    Hint("slash", "/", "search"),
    Hint("n", "n N", "next"),
    Hint("q", "q", "back"),
)
_SIDEWAYS = 16


class Viewer(Sheet[None]):
    WIDTH = 1_000_000
    TALL = True

    def __init__(self, title: str) -> None:
        self.page = Page()
        self._title = title
        self._typing: Typed | None = None  # what is searched for, while it is written
        self._said = "loading…"
        self._failure = ""
        super().__init__(self.page, (Folded(self._below),), _HINTS)

    def show(self, lines: Iterable[Text]) -> None:
        """These and no others."""
        self.page.lines = list(_single(lines))
        self._said = "" if self.page.lines else "there is nothing to show"
        self._again()

    def append(self, lines: Iterable[Text]) -> None:
        """More of them; who was at the end stays there."""
        following = not self.page.below
        self.page.lines.extend(_single(lines))
        self._said = ""
        self._again()
        if following and self.is_mounted:
            self.page.go(len(self.page.lines))

    def fail(self, message: str) -> None:
        """It cannot be had, or not all of it; what came before stays."""
        self._said, self._failure = "", message
        self._again()

    def heading(self, width: int) -> list[Text]:
        place = plain(self._place(), "dim")
        room = width - cell_len(place.plain) - 2
        return [
            joined((fitted(plain(self._title, "bold"), max(1, room)), place), "  "),
            plain("─" * width, "dim", width),
        ]

    def _place(self) -> str:
        lines, page = len(self.page.lines), self.page
        if not lines:
            return ""
        return f"{page.top + 1}–{min(lines, page.top + max(1, page.size.height))} of {lines}"

    def _below(self, width: int) -> list[Text]:
        if self._typing is not None:
            return [plain(f"/{self._typing.text}▏")]
        failure = paragraphs([f"failed: {self._failure}"], width, "bold red") if self._failure else []
        return [*failure, plain(self._said, "dim")] if self._said or not failure else failure

    def pressed(self, key: str, character: str | None) -> None:
        if self._typing is not None:
            self._type(self._typing, key, character)
        elif key in ("q", "escape"):
            self.dismiss(None)
        elif key in ("/", "slash"):
            self._typing = Typed()
        elif key in ("n", "N"):
            self._search(1 if key == "n" else -1, again=True)
        elif key in ("h", "left", "l", "right"):
            self.page.shift(-_SIDEWAYS if key in ("h", "left") else _SIDEWAYS)
        else:
            super().pressed(key, character)
        self._again()

    def pasted(self, text: str) -> None:
        if self._typing is not None:
            self._typing = self._typing.put(text)
            self._again()

    def _type(self, typing: Typed, key: str, character: str | None) -> None:
        if key == "escape":
            self._typing = None
        elif key == "enter":
            self._typing, self._said = None, ""
            self.page.wanted = pattern_of(typing.text) if typing.text else None
            self._search(1, again=False)
        else:
            self._typing = typing.keyed(key, character) or typing

    def _search(self, step: int, *, again: bool) -> None:
        page = self.page
        if page.wanted is None:
            self._said = "/ searches"
            return
        start = page.found + step if again and page.found is not None else page.top
        found = line_with(page.lines, page.wanted, start, step)
        if found is None:
            self._said = "it is nowhere here"
        else:
            page.found, self._said = found, f"in line {found + 1}"
            page.go(found - page.size.height // 2)

    def _scrolled(self) -> None:
        if self.is_mounted:
            self._fixed[0].settle(self._fixed[0].size.width)

    def _again(self) -> None:
        self.refit()


class Page(Painted):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Text] = []
        self.wanted: re.Pattern[str] | None = None
        self.found: int | None = None
        self._from = 0  # the first character of each line that is shown

    def height_for(self, width: int) -> int:
        return len(self.lines)

    def line_at(self, y: int, width: int) -> Text:
        if y >= len(self.lines):
            return plain("")
        line = marked(self.lines[y], self.wanted)
        if not self._from:
            return line
        _, rest = line.divide([self._from])[0:2] if len(line) > self._from else (line, plain(""))
        return joined((plain("…", "dim"), rest), "")

    def shift(self, by: int) -> None:
        longest = max(
            (len(self.lines[y]) for y in range(self.top, min(len(self.lines), self.top + self.size.height))),
            default=0,
        )
        self._from = max(0, min(self._from + by, longest - 1))
        self.refresh()


def _single(lines: Iterable[Text]) -> Iterator[Text]:
    for line in lines:
        if "\n" in line.plain:
            yield from line.split("\n", allow_blank=True)
        else:
            yield line
