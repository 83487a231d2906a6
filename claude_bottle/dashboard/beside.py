"""The pane to the right of the dashboard's own, where tmux is there.

Invariant: only a pane that a dashboard has made, and that still runs what it was given, is ever changed or
closed. Nothing about it is remembered here: what it shows is what tmux says now, so that a dashboard which
comes back finds it, and several agree. A pane that its user has given another program is the user's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from claude_bottle.errors import BottleError
from claude_bottle.state.paths import is_slug
from claude_bottle.tmux import argv as words
from claude_bottle.tmux.argv import Pane, Window
from claude_bottle.tmux.client import Tmux


class Beside:
    """Each method asks tmux, for a few milliseconds: call them in a thread."""

    def __init__(self, tmux: Tmux, *, gives_focus: bool) -> None:
        self._tmux = tmux
        self._gives_focus = gives_focus

    def show(self, slug: str, argv: Sequence[str], variables: Mapping[str, str | None]) -> None:
        """Runs `argv` there, unless this slug is there already.

        It closes when `argv` ends well; where it fails, its words stay. Raises BottleError: then the
        dashboard's own terminal has to do.
        """
        if not is_slug(slug):
            raise BottleError(f"{slug!r} is not the name of an agent")
        window = self._tmux.look()
        pane = self._ours(window)
        if pane is None:
            self._fill_new(slug, argv, variables)
            return
        commands = [words.unzoom(self._tmux.own_pane)] if window.is_zoomed else []
        if pane.slug != slug or pane.is_dead:
            commands += words.fill(pane.ident, slug, argv, variables)
        self._carry_out(pane.ident, commands)

    def shown(self) -> str | None:
        """None where there is no such pane, where its program has ended, and where tmux does not answer."""
        with suppress(BottleError):
            pane = self._ours(self._tmux.look())
            if pane and pane.is_missed:
                self._tmux.ask(words.nudge())
            return pane.slug if pane and not pane.is_dead else None
        return None

    def close(self) -> None:
        """Raises BottleError where tmux does not answer."""
        if pane := self._ours(self._tmux.look()):
            self._tmux.ask(words.kill(pane.ident))

    def _ours(self, window: Window) -> Pane | None:
        """Rather one that shows somebody than one that is left over."""
        found = [p for p in window.panes if is_slug(p.slug) and p.ident != self._tmux.own_pane]
        return min(found, key=lambda pane: pane.is_dead, default=None)

    def _fill_new(self, slug: str, argv: Sequence[str], variables: Mapping[str, str | None]) -> None:
        ident = self._tmux.split()
        try:
            self._carry_out(ident, words.fill(ident, slug, argv, variables))
        except BottleError:
            with suppress(BottleError):  # the first reason is the one to be told
                self._tmux.ask(words.kill(ident))
            raise

    def _carry_out(self, ident: str, commands: Sequence[Sequence[str]]) -> None:
        focus = [words.select(ident)] if self._gives_focus else []
        if todo := [*commands, *focus]:
            self._tmux.ask(*todo)


def attach_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Of the operator's, what `attach` has to see in a pane, which otherwise has the server's; no secret.

    None: it must not be there, as the server's would lead elsewhere.
    """
    from claude_bottle.backend import known_backend_names, load_backend
    from claude_bottle.operations.notify import DESKTOP
    from claude_bottle.proc import Command, environment_for

    backends = [name for backend in known_backend_names() for name in load_backend(backend).variables]
    names = ("CLAUDE_BOTTLE_HOME", "COLORTERM", "NO_COLOR", *DESKTOP, *backends)
    return dict.fromkeys(names) | environment_for(Command((), keep=names), environment)
