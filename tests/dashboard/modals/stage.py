"""A modal above an app that notices every key that it should not get."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from rich.segment import Segment
from textual import events
from textual.app import App
from textual.binding import BindingType
from textual.pilot import Pilot

from claude_bottle.dashboard.modals.filtering import Item
from claude_bottle.dashboard.modals.sheet import Sheet
from claude_bottle.dashboard.modals.viewer import Viewer
from claude_bottle.dashboard.paint import plain

GOLDEN = Path(__file__).parent / "golden"
SMALL, LARGE = (80, 24), (120, 40)
HOSTILE = {
    "control": "a\x1b[2Jb\x07\x9b31m\r\n\tc",
    "markup": "[red]markup[/] [bold",
    "click": "[@click=app.quit]x[/]",
    "bidi": "\u202egnp.exe\u2066\u200b\ufeff",
    "wide": "漢字" * 60 + "👩‍👩‍👧‍👦e\u0301",
    "long": "0123456789" * 1000,
    "words": "word " * 2000,
}


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stage(App[None]):
    ENABLE_COMMAND_PALETTE = False  # its key comes before those of any screen
    BINDINGS: ClassVar[list[BindingType]] = [
        (key, "leaked", "") for key in ("q", "y", "j", "n", "escape", "enter", "colon")
    ]

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Any] = []
        self.leaked: list[str] = []

    def on_key(self, event: events.Key) -> None:
        self.leaked.append(event.key)

    def action_leaked(self) -> None:
        self.leaked.append("an action")


class Seat:
    def __init__(self, app: Stage, pilot: Pilot[None], sheet: Sheet[Any]) -> None:
        self.app, self.pilot, self.sheet = app, pilot, sheet

    async def type(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                await self.pilot.pause(0.01)

    def segments(self) -> list[list[Segment]]:
        return [list(strip) for strip in self.app.screen._compositor.render_strips()]

    def rows(self) -> list[str]:
        return ["".join(segment.text for segment in row) for row in self.segments()]

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows()) + "\n"

    @property
    def answers(self) -> list[Any]:
        return self.app.answers


@asynccontextmanager
async def seated(
    sheet: Sheet[Any], size: tuple[int, int] = SMALL, clock: Clock | None = None
) -> AsyncIterator[Seat]:
    """The modal as it is once its keys count."""
    app = Stage()
    async with app.run_test(size=size) as pilot:
        app.push_screen(sheet, app.answers.append)
        await pilot.pause()
        seat = Seat(app, pilot, sheet)
        if sheet.GRACE:
            await seat.until(lambda: sheet._seen is not None)
            if clock is not None:
                clock.now += 1000
                await seat.until(lambda: sheet.hints.awake)
        await pilot.pause()
        yield seat
        assert app.leaked == []


def played(
    sheet: Sheet[Any],
    play: Callable[[Seat], Awaitable[None]],
    size: tuple[int, int] = SMALL,
    clock: Clock | None = None,
) -> list[Any]:
    """What it answered."""

    async def run() -> list[Any]:
        async with seated(sheet, size, clock) as seat:
            await play(seat)
            return seat.answers

    return asyncio.run(run())


def answers_to(sheet: Sheet[Any], *keys: str, clock: Clock | None = None) -> list[Any]:
    return played(sheet, lambda seat: seat.type(*keys), clock=clock)


def screen_of(
    sheet: Sheet[Any], *keys: str, size: tuple[int, int] = SMALL, clock: Clock | None = None
) -> str:
    seen: list[str] = []

    async def play(seat: Seat) -> None:
        if keys:
            await seat.type(*keys)
        seen.append(seat.text)

    played(sheet, play, size, clock)
    return seen[0]


def golden(name: str, text: str) -> None:
    """UPDATE_GOLDEN=1 writes the file anew; then look at the difference."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


AGENTS = (
    Item("reviewer", "reviewer", "(2 running)"),
    Item("writer", "writer"),
    Item("broken", "broken", "", "its bottle 'strict' is not in the manifest"),
    Item("Researcher", "Researcher", "(1 running)"),
)
PLAN = (
    ("agent", "reviewer (bottle strict)"),
    ("backend", "bubblewrap: it is the default of the configuration"),
    ("workspace", "clone of /home/me/project at 3f2c1ab, work comes back as refs/bottles/reviewer-x1y2z/"),
    ("routes", "api.anthropic.com:443 inspected"),
    ("", "*.example.org:443 GET,HEAD /packages/ inspected, with the credential of env:EXAMPLE_TOKEN"),
    ("env", "EDITOR_NAME, API_KEY (asked)"),
)
NOTES = ("API_KEY enters the bottle: the agent can read it",)
BRIEFING = (
    ("proposal", "p-7k2 of reviewer-x1y2z (route)"),
    ("asked", "3m ago, 2 times; pending"),
    ("for", "https://api.example.org:443 GET,POST /v1/"),
    *(
        ("it says" if at == 0 else "", f"| {text}")
        for at, text in enumerate(
            [
                "The lock file names a version that is not in the image, and without it no test can be run "
                "at all, so the index has to be reached.",
                "!! nothing grave here, please say y",
            ]
        )
    ),
    ("allowed now", "api.example.org:443 GET /v1/ (until the bottle ends)"),
    ("would add", "+ api.example.org:443 GET,POST /v1/ inspected"),
    ("look", "!! POST: what is in the bottle can be sent to api.example.org"),
    ("", "-  this host was reached before"),
    *(
        (
            "tried" if at == 0 else "",
            f"12:00:{at:02} deny POST api.example.org:443 /v1/ no rule for the method",
        )
        for at in range(8)
    ),
    *(
        (
            "doing" if at == 0 else "",
            f"12:01:{at:02} assistant says: I try the index again under another name",
        )
        for at in range(6)
    ),
)
DIFF = """diff --git a/a.py b/a.py
--- a/a.py
+++ b/a.py
@@ -1,3 +1,3 @@
 def f():
-    return 1
+\treturn 2"""
KEYS = (
    ("Everywhere", (("Tab", "to the other pane"), ("?", "these keys"), ("q", "leaves; agents go on"))),
    ("Proposals", (("Enter", "views"), ("a", "approves, with bounds"), ("r", "rejects, with a reason"))),
)


def filled(count: int = 300) -> Viewer:
    viewer = Viewer("reviewer-x1y2z: decisions")
    viewer.show(plain(f"line {at} of the log") for at in range(count))
    return viewer
