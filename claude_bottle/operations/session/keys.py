r"""The two keys of an attached terminal that are not for the agent. Pure.

Ctrl-\ detaches, as in dtach and abduco: Claude Code has no use for it, and it needs no second key. Ctrl-Z
suspends this terminal and not the agent, which in a bottle has no shell to bring it back. Neither counts
within a paste.
"""

from __future__ import annotations

import re

DETACH, SUSPEND = b"\x1c", b"\x1a"
_PASTE, _PASTED = b"\x1b[200~", b"\x1b[201~"
_WORD = re.compile(rb"\x1b\[20[01]~|[\x1a\x1c]")
_BEGUN = re.compile(rb"\x1b(?:\[(?:2(?:0[01]?)?)?)?\Z")  # the beginning of a mark, at the end of a piece


class Keys:
    """Everything that is typed, in pieces of any size."""

    def __init__(self) -> None:
        self._pasting = False
        self._begun = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The bytes for the agent, and the key that ended them, or nothing. What follows it is not used."""
        seen = self._begun + data
        for found in _WORD.finditer(seen):
            word = found[0]
            if word in (_PASTE, _PASTED):
                self._pasting = word == _PASTE
            elif not self._pasting:
                before = seen[len(self._begun) : found.start()]
                self._begun = b""
                return before, word
        begun = _BEGUN.search(seen)
        self._begun = begun[0] if begun else b""
        return data, b""
