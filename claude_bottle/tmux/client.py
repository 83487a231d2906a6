"""The tmux server that this terminal is a pane of.

Invariant: nothing is done in a server, or beside a pane, that is not the one this process runs in. Whatever
goes wrong is one BottleError that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from claude_bottle.errors import BottleError
from claude_bottle.proc import Command, Runner, checked
from claude_bottle.tmux import argv
from claude_bottle.tmux.argv import Place, Window

_SECONDS = 5.0


def find_tmux(environment: Mapping[str, str], runner: Runner, terminal: str | None = None) -> Tmux | None:
    """None outside tmux. `terminal` is the name of this process's own, where it is known.

    A terminal that was started from a pane inherits what names that pane, and is another place all the same.
    """
    place = argv.place_from(environment, terminal)
    return Tmux(runner, place) if place else None


class Tmux:
    """Every method asks the server anew, waits for a few milliseconds, and raises BottleError."""

    def __init__(self, runner: Runner, place: Place) -> None:
        self._runner = runner
        self._place = place

    @property
    def own_pane(self) -> str:
        return self._place.pane

    def look(self) -> Window:
        """The window of our own pane."""
        window = argv.parse_window(self.ask(argv.list_panes(self._place.pane)))
        if window.server != self._place.server:
            raise BottleError("the tmux that this terminal belongs to is gone: another one is in its place")
        if argv.is_too_old(window.version):
            needed = ".".join(map(str, argv.OLDEST))
            raise BottleError(f"tmux {window.version} is too old: a pane beside this one needs {needed}")
        own = next((pane for pane in window.panes if pane.ident == self._place.pane), None)
        if own is None or self._place.terminal not in (None, own.terminal):
            raise BottleError("this terminal is not the tmux pane that $TMUX_PANE names")
        return window

    def split(self) -> str:
        """A new pane to the right of our own, still without a program."""
        return argv.parse_pane(self.ask(argv.split(self._place.pane)))

    def ask(self, *commands: Sequence[str]) -> str:
        """What the server says to a sequence of commands."""
        command = Command(argv.tmux(self._place, *commands), timeout=_SECONDS, limit=1 << 20)
        return checked(self._runner, command, "tmux has refused").text
