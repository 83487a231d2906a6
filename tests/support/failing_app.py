"""A dashboard on this terminal in which something goes wrong, run as the command runs it.

argv: what. Once a key is pressed `draw` and `key` raise, in a widget and in the app, and `hand` hands the
terminal over; `hang` has a backend that never answers.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from textual import events

from claude_bottle.cli.runner import run_command
from claude_bottle.dashboard.app import Dashboard
from claude_bottle.dashboard.ending import ends_by_signal
from claude_bottle.dashboard.table import Table
from tests.support.dash import Stage, agent

SECRET = "a-value-of-the-environment"
WORDS = "broken \x1b]0;title\x07 [red]and hostile[/red]"


class Failing(Dashboard):
    what = ""

    def on_key(self, event: events.Key) -> None:
        if event.key == "q":
            return
        self.environment_of_the_operator = SECRET
        if self.what == "draw":
            Table.render_line = _broken  # type: ignore[method-assign]
            self.refresh(layout=True)
            for table in self._tables.values():
                table.refresh()
        if self.what == "hand":
            self.hand_over(["sh", "-c", "echo here-I-am; exec sleep 600"])
        if self.what == "key":
            _raise(SECRET)


def _broken(self: Table, y: int) -> Any:
    _raise(SECRET)


def _raise(hidden: str) -> None:
    environment = {"ANTHROPIC_API_KEY": hidden}
    raise RuntimeError(WORDS + str(len(environment)))


def run(options: argparse.Namespace, _: object) -> int:
    stage = Stage(agent("reviewer-ab12x"))
    if options.what == "hang":
        stage.stuck["docker"] = stage.stuck["proposals"] = threading.Event()
        stage.running.append(agent("seen-00000", backend="bubblewrap"))
    Failing.what = options.what
    app = Failing(stage, None, Path("/"))  # type: ignore[arg-type]
    with ends_by_signal(app.leave_from_outside):
        app.run()
    return app.return_code or 0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what")


if __name__ == "__main__":
    module: Any = SimpleNamespace(__doc__="", configure=configure, run=run)
    assert not isinstance(module, ModuleType)
    sys.exit(run_command("dashboard", module, sys.argv[1:]))
