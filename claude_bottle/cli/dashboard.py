"""All agents and all their questions on one screen, with tmux beside it.

Two panes: what waits for your answer above, what runs below. The keys that apply stand on the last line; ?
shows all. In tmux, Enter puts an agent into the pane to the right; elsewhere it takes this terminal until you
detach. q leaves, and the agents go on. Several dashboards at once show the same.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--focus",
        choices=("agent", "dashboard"),
        default="dashboard",
        help="in tmux: which of the two has the keys once an agent is in the right pane (dashboard)",
    )
    parser.add_argument(
        "--theme",
        choices=("auto", "dark", "light", "terminal"),
        default="auto",
        help="colours; auto asks what the terminal says of itself, terminal takes its own sixteen",
    )


def run(options: argparse.Namespace, screen: Screen) -> int:
    import sys

    from claude_bottle.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the dashboard needs a terminal on standard input and output",
            "claude-bottle list --watch --plain says the same in lines",
        )
    from claude_bottle.operations.context import system_context

    context = system_context()
    from claude_bottle.dashboard.open import open_dashboard

    return open_dashboard(context, gives_focus=options.focus == "agent", theme=options.theme)
