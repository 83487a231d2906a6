"""What of a bottle's terminal output may reach the operator's terminal. Pure.

Rule: text passes, and those control sequences that draw, colour, move the cursor or switch one of `_MODES`;
what is not on these lists does not. So nothing passes that makes a terminal answer, as what it answers would
be typed into the bottle, or later into a shell; nothing that changes what the key that detaches sends; and
no string sequence at all: no title, clipboard, link, image, file, palette.

Invariant: what comes out is whole characters and whole sequences, each of them on the lists by itself.
Whatever a terminal makes of what was dropped is of no concern, since it never sees it.
Sources: ECMA-48; XTerm Control Sequences.
"""

from __future__ import annotations

import codecs
import re

_MODES = {
    **dict.fromkeys((1049, 1047, 47), False),  # the other screen comes first
    **dict.fromkeys((1, 12, 1000, 1002, 1003, 1004, 1006, 1007, 1016, 2004, 2026, 2031), False),
    **dict.fromkeys((7, 25), True),
}  # the private modes that pass, and whether each is on where nobody has touched it
_SAVED_CURSOR = 1048  # an order rather than a mode: there is nothing to take back
_FINALS = frozenset("@ABCDEFGHIJKLMPSXZ`abdefmrsu")
_SCROLL_DOWN = "T"  # with more than one number it begins a mouse mode in which the terminal waits
_SHORT = frozenset(("7", "8", "=", ">", "D", "E", "M", "(B", "(0"))
_NUMBERS = re.compile(r"(?:[0-9]{0,4}(?:[;:][0-9]{0,4}){0,31})?")
_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x06\x0e\x10-\x1f\x7f-\x9f]+)"
    r"|\x1b\[(?P<numbers>[\x30-\x3f]{0,180})(?P<between>[\x20-\x2f]{0,4})(?P<final>[\x40-\x7e])"
    r"|(?P<string>\x1b[]PX^_k])"
    r"|\x1b(?P<short>[\x20-\x2f]{0,4}[\x30-\x4f\x51-\x57\x59-\x5a\x5c\x60-\x6a\x6c-\x7e])"
    r"|(?P<unfinished>\x1b(?:\[[\x30-\x3f]{0,180}[\x20-\x2f]{0,4}|[\x20-\x2f]{0,4})\Z)",
)
_STRING_END = re.compile(r"[\x07\x18\x1a\x1b]")
_PLAIN = b"\x1b7\x1b[r\x1b8\x1b[m\x1b(B\x0f\x1b>"  # the whole screen, no colour, ASCII, ordinary keypad


class Filter:
    """One terminal's output, in pieces of any size."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""
        self._in_string = False
        self._touched: frozenset[int] = frozenset()  # modes that are not as they were at first

    def feed(self, data: bytes) -> bytes:
        text = self._held + self._decode(data)
        self._held = ""
        passed: list[str] = []
        at = 0
        while at < len(text):
            if self._in_string:
                end = _STRING_END.search(text, at)
                if end is None:
                    break
                self._in_string = False
                at = end.start() if end[0] == "\x1b" else end.end()
                continue
            found = _TOKEN.match(text, at)
            if found is None:
                at += 1  # a control character, or an escape that begins nothing
                continue
            at = found.end()
            if found["unfinished"]:
                self._held = found[0]
            elif found["string"]:
                self._in_string = True
            elif self._passes(found):
                passed.append(found[0])
        return "".join(passed).encode()

    def entering(self) -> bytes:
        """For a terminal that comes later: the modes that the program has switched."""
        return b"".join(_switch(mode, not _MODES[mode]) for mode in _MODES if mode in self._touched)

    def leaving(self) -> bytes:
        """What gives a terminal back that has seen all of this, as it was."""
        return _PLAIN + b"".join(
            _switch(mode, _MODES[mode]) for mode in reversed(_MODES) if mode in self._touched or mode == 25
        )

    def _passes(self, found: re.Match[str]) -> bool:
        if found["text"]:
            return True
        if found["short"] is not None:
            return found["short"] in _SHORT
        if found["between"]:
            return False
        numbers, final = found["numbers"], found["final"]
        if numbers.startswith("?") and final in "hl":
            return self._switched(numbers[1:], on=final == "h")
        if final == _SCROLL_DOWN:
            return len(numbers) < 5 and (numbers.isdigit() or not numbers)
        return final in _FINALS and _NUMBERS.fullmatch(numbers) is not None

    def _switched(self, numbers: str, *, on: bool) -> bool:
        if not _NUMBERS.fullmatch(numbers):
            return False
        modes = {int(number) for number in re.split("[;:]", numbers) if number}
        if not modes <= _MODES.keys() | {_SAVED_CURSOR}:
            return False
        for mode in modes & _MODES.keys():
            self._touched = self._touched - {mode} if on is _MODES[mode] else self._touched | {mode}
        return True


def _switch(mode: int, on: bool) -> bytes:
    return b"\x1b[?%d%c" % (mode, b"h" if on else b"l")
