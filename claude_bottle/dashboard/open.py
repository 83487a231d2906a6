"""Opens the dashboard on this terminal, and says which colours it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_bottle.operations.context import Context

if TYPE_CHECKING:
    from claude_bottle.dashboard.beside import Beside

_THEMES = {"dark": "textual-dark", "light": "textual-light", "terminal": "ansi-dark"}


def open_dashboard(context: Context, *, gives_focus: bool, theme: str) -> int:
    """Until the operator leaves it."""
    from claude_bottle.dashboard.app import Dashboard
    from claude_bottle.dashboard.ending import ends_by_signal
    from claude_bottle.dashboard.source import Services

    # A copy: Textual takes NO_COLOR out of the process's own, and who is started here is to see it too.
    context = context._replace(environment=dict(context.environment))
    app = Dashboard(Services(context), _beside(context, gives_focus), context.folder)
    app.theme = theme_for(theme, context.environment)
    with ends_by_signal(app.leave_from_outside):
        app.run()
    return app.return_code or 0


def theme_for(asked: str, environment: Mapping[str, str]) -> str:
    """A theme's name. By itself: the terminal's own sixteen colours where it has no more.

    COLORFGBG ("15;0", rxvt and others) names the colour of the background: 7 and 15 are light.
    """
    if asked in _THEMES:
        return _THEMES[asked]
    many = "256" in environment.get("TERM", "") or environment.get("COLORTERM") in ("truecolor", "24bit")
    if not many:
        return _THEMES["terminal"]
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return _THEMES["light" if background in ("7", "15") else "dark"]


def _beside(context: Context, gives_focus: bool) -> Beside | None:
    """None outside of tmux. Raises BottleError where what names our pane cannot be right."""
    import os
    import sys

    from claude_bottle.tmux.client import find_tmux

    tmux = find_tmux(context.environment, context.runner, os.ttyname(sys.stdout.fileno()))
    if tmux is None:
        return None
    from claude_bottle.dashboard.beside import Beside

    return Beside(tmux, gives_focus=gives_focus)
