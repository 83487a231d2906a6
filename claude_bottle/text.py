"""The one boundary between hostile text and the operator's screen.

Invariant: what `shown` returns has no control character, no escape sequence, no bidirectional or invisible
character, and at most `limit` characters. Everything that came from inside a bottle, a file or the network
passes through here before it is printed.
"""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
# Letters, marks and symbols without a shape: Unicode's Default_Ignorable_Code_Point, the empty Braille cell.
_SHAPELESS = {
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0),
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}


def shown(text: object, limit: int = 200) -> str:
    """`text` on one line: what cannot be seen as itself stands as `\\xNN`, `\\uNNNN` or `\\UNNNNNNNN`."""
    raw = str(text)
    line = "".join(_escaped(char) if _is_hidden(char) else char for char in raw[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def shown_lines(text: object, limit: int = 4000, lines: int = 200) -> str:
    """Like `shown`, but keeps line breaks; at most `lines` lines."""
    kept = str(text)[:limit].split("\n")
    return "\n".join(shown(line.replace("\t", "    "), limit) for line in kept[:lines])


def plural(count: int, noun: str, many: str = "") -> str:
    """`many` is the plural where it is not the noun with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {many or noun + 's'}"


def _is_hidden(char: str) -> bool:
    code = ord(char)
    if 0x20 <= code < 0x7F:
        return False
    return code in _SHAPELESS or unicodedata.category(char) in _HIDDEN


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
