"""`list --watch`: what runs, looked at again each second, until Ctrl-C.

Invariant: plain output is one line for each change and holds no escape sequence; otherwise the table is drawn
anew in its place, and only when it has changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from claude_bottle.cli.screen import Screen
from claude_bottle.operations.observed import observed
from claude_bottle.operations.watch import Line, Picture, changes, picture_of
from claude_bottle.state.paths import Home
from claude_bottle.text import shown

_PAUSE = 1.0
_SECONDS = 2.0  # that a backend has to answer
_UP, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[{}F", "\x1b[2K", "\x1b[J"
_HEAD: Line = ("BACKEND", "SLUG", "AGENT", "SERVICES", "STATUS")


def pictures(home: Home) -> Iterator[Picture]:
    """One after the other, for ever."""
    found = Picture()
    while True:
        rows, warnings = observed(home, _SECONDS)
        found = picture_of(found, rows, warnings)
        yield found
        time.sleep(_PAUSE)


def watch_plainly(home: Home, screen: Screen) -> None:
    before = Picture()
    for after in pictures(home):
        lines, warnings = changes(before, after)
        for text in warnings:
            screen.say(text)
        for line in lines:
            screen.put_row((time.strftime("%H:%M:%S"), *line))
        screen.flush()
        before = after


def watch_as_json(home: Home, screen: Screen) -> None:
    """An object for each change of anything, all agents in it."""
    before = None
    while True:
        rows, warnings = observed(home, _SECONDS)
        after = {"active": [row.as_dict() for row in rows], "warnings": warnings}
        if after != before:
            screen.put_json(after)
            screen.flush()
        before = after
        time.sleep(_PAUSE)


def watch_in_place(home: Home, screen: Screen) -> None:
    import shutil

    drawn: list[str] = []
    for found in pictures(home):
        size = shutil.get_terminal_size()
        lines = table(found, size.columns - 1, size.lines - 1)
        if lines != drawn:
            screen.put(redrawn(len(drawn), lines))
            screen.flush()
            drawn = lines


def table(found: Picture, width: int, height: int) -> list[str]:
    """Safe to look at, each line no longer than the screen is wide, in all no more than it is high."""
    rows = [_HEAD, *found.lines.values()]
    cells = [tuple(shown(cell, 60) for cell in row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    lines += [shown(text) for text in found.warnings] or ([] if found.lines else ["nothing runs"])
    if len(lines) > height:
        lines = [*lines[: height - 1], f"... and {len(lines) - height + 1} more"]
    return [line[:width] for line in lines]


def redrawn(above: int, lines: list[str]) -> str:
    """What puts `lines` where there are `above` others, the cursor below them."""
    up = _UP.format(above) if above else ""
    return up + "\n".join(_CLEAR_LINE + line for line in lines) + "\n" + _CLEAR_BELOW
