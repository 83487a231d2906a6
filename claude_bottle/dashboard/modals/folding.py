"""Long text in lines that fit, and labels beside it. Pure.

Invariant: nothing is lost in the folding, and a line that goes on never looks like one that begins: it is
indented, or it has the bar in front that marks it as another's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from rich.cells import chop_cells
from rich.text import Text

from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import cell_len, fitted, joined, plain
from claude_bottle.text import shown

LIMIT = 2000  # characters of one text
_WORD = re.compile(r" *[^ ]+")
_QUOTE, _INDENT = "| ", "  "
_LABEL = 14  # cells, at most

Pair = tuple[str, str]
Style = Callable[[str, str], str]  # of a label and the text beside it


def folded(text: str, width: int) -> list[str]:
    """At most `width` cells each; broken between words, and inside one only where it does not fit alone."""
    width = max(2, width)  # of a wide character
    lines: list[str] = []
    line = ""
    for word in _WORD.findall(text):
        if cell_len(line + word) <= width:
            line += word
            continue
        if line:
            lines.append(line)
            word = word.lstrip(" ")
        *whole, line = chop_cells(word, width) or [""]
        lines += whole
    return [*lines, line]


def hung(text: str, width: int) -> list[str]:
    """Folded, the lines that go on set in."""
    if cell_len(text) <= width:
        return [text]
    quoted = text.startswith(_QUOTE)
    first, *rest = folded(text.removeprefix(_QUOTE) if quoted else text, width - len(_INDENT))
    mark = _QUOTE if quoted else _INDENT
    return [(_QUOTE if quoted else "") + first, *(mark + line for line in rest)]


def column_of(pairs: Iterable[Pair]) -> int:
    """How wide the labels are."""
    return min(_LABEL, max((cell_len(shown(label)) for label, _ in pairs), default=0))


def beside(
    pairs: Sequence[Pair], width: int, style: Style | None = None, column: int | None = None
) -> list[Text]:
    """The labels in a column of their own, the texts folded next to them. A label may be empty."""
    column = column_of(pairs) if column is None else column
    lines: list[Text] = []
    of = ""
    for name, text in pairs:
        of = name or of
        words = style(of, text) if style else ""
        for at, line in enumerate(hung(shown(text, LIMIT), width - column - 2)):
            front = fitted(plain(name if at == 0 else "", "bold"), column)
            lines.append(joined((front, plain(line, words, LIMIT)), "  "))
    return lines


def paragraphs(texts: Iterable[str], width: int, style: str = "") -> list[Text]:
    return [plain(line, style, LIMIT) for text in texts for line in folded(shown(text, LIMIT), width)]


def written(line: Typed, width: int) -> list[Text]:
    """What the operator writes, in rows of `width` cells; the one with a style in it has the cursor."""
    limit = 10 * line.limit + 1  # of what is escaped
    before, here, after = line.text[: line.at], line.text[line.at :][:1], line.text[line.at + 1 :]
    parts = (plain(before, limit=limit), plain(here or " ", "reverse"), plain(after, limit=limit))
    whole = joined(parts, "")
    ends: list[int] = []
    for row in chop_cells(whole.plain, max(2, width))[:-1]:
        ends.append(len(row) + (ends[-1] if ends else 0))
    return list(whole.divide(ends))
