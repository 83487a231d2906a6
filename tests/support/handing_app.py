"""A small app that hands its terminal over, for a test that types and looks: a program of its own.

argv: the home of the package, then the command that `h` runs; `s` does the same without waiting on a failure.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, sys.argv[1])

from textual import events
from textual.app import App, ComposeResult
from textual.widgets import Static

from claude_bottle.dashboard.terminal import hand_over
from claude_bottle.errors import BottleError


class Handing(App[None]):
    ENABLE_COMMAND_PALETTE = False
    words = ""

    def compose(self) -> ComposeResult:
        yield Static("", id="words", markup=False)
        yield Static("\n".join(f"row {number}" for number in range(60)), markup=False)

    def say(self, words: str) -> None:
        self.words = words
        self.query_one("#words", Static).update(f"app {self.size.width}x{self.size.height}: {words}")

    def on_mount(self) -> None:
        self.say("ready")

    def on_resize(self) -> None:
        self.say(self.words)

    def on_click(self, event: events.Click) -> None:
        self.say(f"click {event.screen_x},{event.screen_y}")

    def on_key(self, event: events.Key) -> None:
        if event.key in ("h", "s"):
            try:
                status = hand_over(self, sys.argv[2:], os.environ, waits_on_failure=event.key == "h")
                self.call_after_refresh(self.say, f"back with {status}")
            except BottleError as error:
                self.call_after_refresh(self.say, f"failed: {error.message}")
        elif event.key == "q":
            self.exit()
        else:
            self.say(f"key {event.key}")


if __name__ == "__main__":
    Handing().run()
