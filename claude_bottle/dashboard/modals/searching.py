"""Where a word stands in many lines, and how a difference looks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.text import Text

from claude_bottle.dashboard.paint import plain

_LINE = 4000  # characters of a line that are shown


def pattern_of(typed: str) -> re.Pattern[str]:
    """In any case; what is typed stands for itself."""
    return re.compile(re.escape(typed), re.IGNORECASE)


def line_with(lines: Sequence[Text], wanted: re.Pattern[str], start: int, step: int) -> int | None:
    """The first line from `start` on, forwards or backwards, round the end."""
    count = len(lines)
    for passed in range(count):
        at = (start + step * passed) % count
        if wanted.search(lines[at].plain):
            return at
    return None


def marked(line: Text, wanted: re.Pattern[str] | None) -> Text:
    if wanted is None or not wanted.search(line.plain):
        return line
    line = line.copy()
    for found in wanted.finditer(line.plain):
        line.stylize("reverse", *found.span())
    return line


def diff_lines(text: str) -> Iterator[Text]:
    """A unified difference: what its signs say is said in colour too."""
    for line in text.split("\n"):
        yield plain(line.replace("\t", "    "), _style(line), _LINE)


def _style(line: str) -> str:
    if line.startswith(("+++", "---", "diff ")):
        return "bold"
    signs = {"+": "green", "-": "red", "@": "cyan"}
    return signs.get(line[:1], "") if not line.startswith("@") or line.startswith("@@") else ""
