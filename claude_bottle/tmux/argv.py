"""What is asked of tmux, and how its answers are read. Pure.

Invariant: a word of ours stays one word. tmux ends a command at a `;` that ends a word, gives a single word
to a shell, and looks for formats in titles and in `set-option -F` (`#(...)` runs a program): so the first is
escaped, the second never happens, and `#` is doubled.
Source: tmux(1), "Parsing syntax", "Formats".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.text import shown

OLDEST = (3, 2)  # `remain-on-exit failed`; panes with options and variables of their own came with 3.0
MARK = "@claude_bottle"  # "SLUG PID": whom the pane shows, and the program that we have started in it
# To say that a program has failed tmux scrolls by a line, which may be the one that says why.
_AFTER_A_LINE = ("sh", "-c", 'echo; exec env "$@"', "env")
_FIELDS = (
    *("#{pid}", "#{version}", "#{window_zoomed_flag}", "#{pane_id}"),
    "#{pane_dead}#{pane_dead_status}#{pane_dead_signal}",
    *("#{pane_pid}", "#{pane_tty}", f"#{{{MARK}}}"),
)
_FORMAT = " ".join(_FIELDS)
_PANE = re.compile(r"%[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_TITLE = 60  # characters


class Place(NamedTuple):
    """The pane that this process runs in, by $TMUX and $TMUX_PANE."""

    socket: str
    server: int  # its process
    pane: str
    terminal: str | None = None  # that of this process, which the pane's has to be; None: not looked at


class Pane(NamedTuple):
    ident: str
    terminal: str = ""
    is_dead: bool = False  # its program has ended, and its words stay
    slug: str = ""  # whom it shows; empty where it is none of ours, or no longer
    is_missed: bool = False  # dead, and tmux has not heard how: so it does not close by itself


class Window(NamedTuple):
    """The window around a pane, as it is now."""

    server: int
    version: str
    is_zoomed: bool
    panes: tuple[Pane, ...]


def place_from(environment: Mapping[str, str], terminal: str | None = None) -> Place | None:
    """None outside tmux. $TMUX is SOCKET,PID,SESSION."""
    parts = environment.get("TMUX", "").rsplit(",", 2)
    pane = environment.get("TMUX_PANE", "")
    if len(parts) != 3 or not parts[0] or not _NUMBER.fullmatch(parts[1]) or not _PANE.fullmatch(pane):
        return None
    return Place(parts[0], int(parts[1]), pane, terminal)


def tmux(place: Place, *commands: Sequence[str]) -> tuple[str, ...]:
    """Several commands are one sequence: the first that fails is the last."""
    argv = ["tmux", "-S", place.socket]
    for index, command in enumerate(commands):
        argv += [";"] if index else []
        argv += [_word(word) for word in command]
    return tuple(argv)


def list_panes(pane: str) -> tuple[str, ...]:
    """All panes of the window that this one is in."""
    return ("list-panes", "-t", pane, "-F", _FORMAT)


def split(pane: str) -> tuple[str, ...]:
    """A pane to the right, with no program yet: what it needs to know must be set before one can end."""
    return ("split-window", "-h", "-d", "-P", "-F", "#{pane_id}", "-t", pane, "")


def fill(
    pane: str, slug: str, argv: Sequence[str], variables: Mapping[str, str | None]
) -> tuple[tuple[str, ...], ...]:
    """Runs `argv` in a pane, in place of what runs there; a variable that is None is not there.

    The pane closes when the program ends well, and keeps its words when it fails.
    """
    settings = [f"{name}={value}" for name, value in variables.items() if value is not None]
    unset = [name for name, value in variables.items() if value is None]
    run = (*_AFTER_A_LINE, *_each("-u", unset), *argv)
    return (
        ("set-option", "-p", "-t", pane, "remain-on-exit", "failed"),
        ("respawn-pane", "-k", "-c", "/", *_each("-e", settings), "-t", pane, "--", *run),
        ("set-option", "-p", "-F", "-t", pane, MARK, f"{_literal(slug)} #{{pane_pid}}"),
        ("select-pane", "-T", _literal(shown(slug, _TITLE)), "-t", pane),
    )


def unzoom(pane: str) -> tuple[str, ...]:
    """For a window that is zoomed: on any other this would zoom."""
    return ("resize-pane", "-Z", "-t", pane)


def select(pane: str) -> tuple[str, ...]:
    return ("select-pane", "-t", pane)


def kill(pane: str) -> tuple[str, ...]:
    return ("kill-pane", "-t", pane)


def nudge() -> tuple[str, ...]:
    """Makes tmux collect every child that has ended, as one more does.

    While libutempter takes a pane out of utmp it has a handler of its own for the signal that says so.
    """
    return ("run-shell", "-b", "true")


def parse_window(text: str) -> Window:
    """What `list_panes` answers. Raises BottleError."""
    rows = [line.split(" ", len(_FIELDS) - 1) for line in text.splitlines()]
    if not rows or not all(len(row) == len(_FIELDS) and _is_plain(row) for row in rows):
        raise BottleError("tmux has given an answer that cannot be read")
    server, version, zoomed = rows[0][:3]
    return Window(int(server), version, zoomed == "1", tuple(_pane(*row[3:]) for row in rows))


def parse_pane(text: str) -> str:
    """What `split` answers. Raises BottleError."""
    if not _PANE.fullmatch(ident := text.strip()):
        raise BottleError("tmux has given an answer that cannot be read")
    return ident


def is_too_old(version: str) -> bool:
    """3.3a, next-3.5, openbsd-7.4; what has no number is newer than any that has one."""
    found = re.search(r"(\d{1,4})\.(\d{1,4})", version)
    return found is not None and (int(found[1]), int(found[2])) < OLDEST


def _pane(ident: str, dead: str, pid: str, terminal: str, mark: str) -> Pane:
    slug, _, started = mark.rpartition(" ")
    return Pane(ident, terminal, dead != "0", slug if started == pid else "", dead == "1")


def _is_plain(row: Sequence[str]) -> bool:
    server, _, _, ident, _, pid, *_ = row
    return bool(_NUMBER.fullmatch(server) and _PANE.fullmatch(ident) and _NUMBER.fullmatch(pid))


def _word(word: str) -> str:
    return f"{word[:-1]}\\;" if word.endswith(";") else word


def _literal(text: str) -> str:
    return text.replace("#", "##")


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]
