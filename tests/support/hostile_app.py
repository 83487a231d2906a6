"""A dashboard in which everything that others have a say in is hostile, on a terminal of its own.

A program for `tests.dashboard.test_hostile`: argv[1] is a socket. Each line on it is a list of texts; with
these the app goes through all that it shows. At each view it says what stands on its screen, as it believes,
and goes on when it is told so.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from claude_bottle.backend.base import Readiness
from claude_bottle.dashboard.acting import Ask, Confirm, Ended, Event, Failed, Paired, Put, Said, Stepped
from claude_bottle.dashboard.modals.approve import Approve
from claude_bottle.dashboard.modals.ask import Ask as Question
from claude_bottle.dashboard.modals.picker import Picker
from claude_bottle.dashboard.modals.preflight import Preflight
from claude_bottle.dashboard.modals.sheet import Sheet
from claude_bottle.dashboard.modals.viewer import Viewer
from claude_bottle.dashboard.source import Brief, Declared, Kept
from claude_bottle.dashboard.world import Agent
from claude_bottle.errors import BottleError
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing, Waiting
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import CAPABILITY, EGRESS, URL, Asked, Proposal
from tests.support.dash import NOON, Played, Script, Stage, lines_of

_PATIENCE = 20.0


class HostileStage(Stage):
    """Every field has the next of the texts."""

    def dress(self, texts: Sequence[str]) -> None:
        word = cycle(texts).__next__
        slugs = [f"{word()}-{number}" for number in range(4)]
        self.running = [
            Agent("docker", slugs[0], word(), NOON, (word(), "egress"), (), word(), "", word(), 3),
            Agent("docker", slugs[1], word(), NOON, ("egress",), (word(),), "idle", "", word(), None),
            Agent("bubblewrap", slugs[2], word(), NOON, (word(),), (), "waiting for input", word(), word()),
            Agent("bubblewrap", slugs[3], word(), NOON, (), (), word(), "", word()),
        ]
        route = Route(word(), (443,), (word(),), (word(),), None, True, None, (), word())
        asks = (
            Asked(EGRESS, word(), route),
            Asked(URL, word(), route, word(), 60.0),
            Asked(CAPABILITY, word(), None, "", None, (word(), word()), word()),
        )
        self.waiting = [
            Waiting(slugs[at], word(), word(), Proposal(word(), asked, NOON)) for at, asked in enumerate(asks)
        ]
        self.warnings = {"docker": [word(), word()], "bubblewrap": [word()]}
        self.said_of_proposals = (word(), word())
        self.numbers = {slugs[0]: Numbers(7, 1, 2)}
        self.agents_declared = [Declared(word(), word()), Declared(f"{word()}2", word())]
        self.said_of_declared = [word()]
        self.backends_here = [
            ("docker", Readiness(True)),
            (word(), Readiness(True)),
            ("none", Readiness(False, word())),
        ]
        self.kept = [Kept(f"{word()}{number}", word(), word()) for number in range(3)]
        self.briefing = Brief(
            (
                ("for", word()),
                (word(), word()),
                ("", f"| {word()}"),
                ("look", f"!! {word()}"),
                ("refused", word()),
            ),
            (word(), word()),
        )
        self.words = [word() for _ in range(12)]
        self.faults = {}

    def proposals(self, agents: Sequence[Agent]) -> Listing:
        return Listing(tuple(self.waiting), self.said_of_proposals)

    def declared(self) -> tuple[list[Declared], list[str]]:
        return self.agents_declared, self.said_of_declared

    def preserved(self) -> tuple[list[Kept], list[str]]:
        return self.kept, self.said_of_declared

    def brief(self, waiting: Waiting) -> Brief:
        return self.briefing

    def diff(self, slug: str) -> str:
        self._asked("diff")
        return "\n".join(f"{sign}{word}" for sign, word in zip(cycle("+- @"), self.words, strict=False))

    def log(self, slug: str) -> Iterator[str]:
        yield from self.words


def script_of(texts: Sequence[str]) -> dict[str, list[Event]]:
    word = cycle(texts).__next__
    plan: list[Event] = [Paired(word(), word()), Paired("", word()), Said(word()), Confirm(word())]
    ends: list[Event] = [
        Stepped(word(), 1.0),
        Said(word()),
        Put(word()),
        Failed(f"no: {word()}", word()),
        Ended(1),
    ]
    return {"start": [*plan, Ask(word()), *ends], "stop": ends, "proposals": [*plan, *ends]}


class Hostile(Played):
    """What hostile text would have it do, it can do: then the test fails."""

    fired = 0

    def action_hostile(self, *_: object) -> None:
        self.fired += 1

    def metas(self) -> list[str]:
        """What of the screen would do something when it is clicked, or leads elsewhere."""
        segments = [segment for strip in self.screen._compositor.render_strips() for segment in strip]
        styles = [segment.style for segment in segments if segment.style is not None]
        return [
            str((style.link, style.meta))
            for style in styles
            if style.link or any("@" in key for key in style.meta)
        ]


class Walk:
    """Through all that there is to be seen."""

    def __init__(self, app: Hostile, stage: HostileStage, pilot: Pilot[None], peer: socket.socket) -> None:
        self._app, self._stage, self._pilot = app, stage, pilot
        self._peer = peer.makefile("rw", encoding="utf-8", newline="\n")

    async def go_on(self) -> None:
        while line := await asyncio.to_thread(self._peer.readline):
            await self._walk(json.loads(line))
            self._tell(over=True)
        self._app.exit()

    async def _walk(self, texts: list[str]) -> None:
        app, stage = self._app, self._stage
        stage.dress(texts)
        app.script.says = script_of(texts)
        app._looking.nudge()
        await self._until(lambda: [agent[:3] for agent in app.world.agents] == sorted_start(stage.running))
        app._looking.nudge()  # whose proposals they are is known by now
        await self._until(lambda: app.world.proposals == tuple(stage.waiting))
        for key in ("escape", "g", "j", "j", "j"):
            await self._press(key)
            await self._look(f"agents {key}")
        await self._press("g")
        await self._open("d", Viewer, "loading")
        await self._press("escape")
        stage.faults["diff"] = BottleError(f"no: {texts[0]}", texts[-1])
        await self._open("d", Viewer, "loading")
        await self._press("escape")
        await self._open("l", Viewer, "loading")
        await self._press("l")
        await self._look("the log, sideways")
        await self._press("escape")
        await self._open("x", Preflight)
        await self._said_after("y")
        await self._press("tab", "g")
        for _ in stage.waiting:
            await self._open("enter", Viewer, "loading")
            await self._press("escape")
            await self._open("a", Approve)
            await self._press("escape")
            await self._press("j")
            await self._look("proposals")
        await self._press("g")
        await self._open("a", Approve)
        await self._open("y", Preflight)
        await self._said_after("n")
        await self._press("tab")
        await self._open("n", Picker)
        await self._press("down")
        picker = app.screen
        await self._open("enter", Picker, but=picker)
        await self._open("enter", Preflight)
        await self._open("y", Question)
        await self._said_after("enter")
        await self._press("G")
        await self._look("a launch that has failed")
        await self._open("l", Viewer, "loading")
        await self._press("escape", "x")
        await self._open("R", Picker)
        await self._press("escape")
        await self._until(lambda: not app.world.launches)

    async def _open(self, key: str, kind: type[Sheet[Any]], unless: str = "", but: object = None) -> None:
        """What this key opens, once it is filled."""
        await self._press(key)
        await self._until(lambda: type(self._app.screen) is kind and self._app.screen is not but)
        if unless:
            await self._until(lambda: not any(unless in line for line in lines_of(self._app)))
        await self._look(kind.__name__)

    async def _said_after(self, key: str) -> None:
        """What the status line says after an act that this key brings to its end."""
        self._app._message = None
        await self._press(key)
        await self._until(lambda: self._app._message is not None and not isinstance(self._app.screen, Sheet))
        await self._look("said")

    async def _press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def _look(self, view: str) -> None:
        await self._pilot.pause()
        self._tell(view=view, lines=lines_of(self._app), metas=self._app.metas())
        await asyncio.to_thread(self._peer.readline)
        await self._pilot.pause()

    def _tell(self, **message: Any) -> None:
        self._peer.write(json.dumps({**message, "fired": self._app.fired}) + "\n")
        self._peer.flush()

    async def _until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError("\n".join(lines_of(self._app)))
            await self._pilot.pause(0.01)


def sorted_start(agents: Sequence[Agent]) -> list[tuple[object, ...]]:
    return sorted((agent[:3] for agent in agents), key=lambda part: part[1])


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as peer:
        for kind in (Preflight, Approve, Question):
            kind.GRACE = 0.0
        stage = HostileStage()
        stage.dress(["tame"])
        app = Hostile(
            Script(), stage, None, Path("/"), every=60.0
        )  # looked at when it is told, so that it is still otherwise

        async def walk(pilot: Pilot[None]) -> None:
            await Walk(app, stage, pilot, peer).go_on()

        app.run(auto_pilot=walk)
        sys.exit(app.return_code or 0)


if __name__ == "__main__":
    main()
