"""A dashboard without bottles: a world that the test sets, and a look at what stands on the screen."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from claude_bottle.backend.base import Readiness
from claude_bottle.dashboard.acting import Act, Ask, Confirm, Ended, Event, Failed
from claude_bottle.dashboard.app import Dashboard
from claude_bottle.dashboard.looking import Counted
from claude_bottle.dashboard.source import Brief, Declared, Kept
from claude_bottle.dashboard.world import Agent
from claude_bottle.errors import BottleError
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing, Waiting
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import EGRESS, Asked, Proposal

GOLDEN = Path(__file__).resolve().parent.parent / "dashboard" / "golden"
SIDECARS = ("egress", "firewall", "supervise")
NOON = 1_770_033_600.0  # a day in February 2026, 12:00 in UTC
YES = "y yes"  # the hints of a modal are there once its keys count
_BOUND = 10.0  # seconds for what a screen must show at some time


def agent(slug: str, **more: Any) -> Agent:
    name, _, _ = slug.rpartition("-")
    known: dict[str, Any] = {"backend": "docker", "name": name, "started": NOON, "services": SIDECARS}
    return Agent(slug=slug, **{**known, "status": "idle", "approvals": 0, **more})


def asked(
    slug: str, ident: str, host: str = "example.org", why: str = "to read the docs", at: float = NOON
) -> Waiting:
    name, _, _ = slug.rpartition("-")
    wanted = Asked(EGRESS, why, Route(host=host))
    return Waiting(slug, name, "docker", Proposal(f"p-{ident}", wanted, at))


class Stage:
    """A source of which a test says what it shows; see `dashboard.source.Services`."""

    def __init__(self, *agents: Agent, proposals: Sequence[Waiting] = ()) -> None:
        self.running = list(agents)
        self.waiting = list(proposals)
        self.warnings: dict[str, list[str]] = {}
        self.faults: dict[str, Exception] = {}  # by what is asked: "docker", "proposals", "diff", ...
        self.stuck: dict[str, threading.Event] = {}
        self.numbers: dict[str, Numbers] = {}
        self.agents_declared = [Declared("reviewer", "reads"), Declared("builder", "builds")]
        self.backends_here = [("docker", Readiness(True)), ("bubblewrap", Readiness(True))]
        self.kept: list[Kept] = []
        self.environment: dict[str, str] = dict(os.environ)
        self.diffs: dict[str, str] = {}
        self.looks = 0

    backends = ("bubblewrap", "docker")

    def _asked(self, about: str) -> None:
        if (event := self.stuck.get(about)) is not None:
            event.wait()
        if (fault := self.faults.get(about)) is not None:
            raise fault

    def agents(self, backend: str) -> tuple[Sequence[Agent], Sequence[str]]:
        self._asked(backend)
        self.looks += 1
        return [each for each in self.running if each.backend == backend], self.warnings.get(backend, ())

    def proposals(self, agents: Sequence[Agent]) -> Listing:
        self._asked("proposals")
        return Listing(tuple(self.waiting), ())

    def count(self, agents: Sequence[Agent]) -> Counted:
        return Counted(dict(self.numbers))

    def declared(self) -> tuple[list[Declared], list[str]]:
        self._asked("declared")
        return self.agents_declared, []

    def readiness(self) -> list[tuple[str, Readiness]]:
        return self.backends_here

    def preserved(self) -> tuple[list[Kept], list[str]]:
        return self.kept, []

    def brief(self, waiting: Waiting) -> Brief:
        self._asked("brief")
        return Brief((("for", waiting.proposal.asked.justification), ("look", "!! a new host")), ())

    def diff(self, slug: str) -> str:
        self._asked("diff")
        return self.diffs.get(slug, "")

    def log(self, slug: str) -> Iterator[str]:
        self._asked("log")
        yield f"=== decisions of {slug}"


class Script:
    """In place of the commands of the command line: what each says, by its first words, and what it was told."""

    def __init__(self, **says: Sequence[Event]) -> None:
        self.says = {name: list(events) for name, events in says.items()}
        self.run: list[list[str]] = []  # the commands that were begun
        self.told: list[object] = []  # what the operator answered them
        self.held: dict[str, threading.Event] = {}  # a command that waits for it before each of its events
        self.effects: dict[str, Callable[[], object]] = {}  # what a command does before it says anything
        self.handed: list[list[str]] = []  # commands that got the terminal
        self.status = 0  # of those

    def act(self, argv: Sequence[str], told: Callable[[Event], None]) -> Act:
        self.run.append(list(argv))
        return FakeAct(self, argv[0], told)  # type: ignore[return-value]


class FakeAct:
    """Says its lines from a thread, as the real one does, and waits for the answers to its questions."""

    def __init__(self, script: Script, name: str, told: Callable[[Event], None]) -> None:
        self._script, self._name, self._told = script, name, told
        self._answers: queue.Queue[object] = queue.Queue()
        threading.Thread(target=self._say, daemon=True).start()

    def _say(self) -> None:
        self._script.effects.get(self._name, lambda: None)()
        for event in self._script.says[self._name]:
            if (held := self._script.held.get(self._name)) is not None:
                held.wait()
            self._told(event)
            if isinstance(event, Confirm | Ask):
                answer = self._answers.get()
                self._script.told.append(answer)
                if answer in (False, None):
                    self._told(Ended(0 if answer is False else 2))
                    return

    def confirm(self, yes: bool) -> None:
        self._answers.put(yes)

    def answer(self, value: str) -> None:
        self._answers.put(value)

    def give_up(self) -> None:
        self._answers.put(None)

    def end(self) -> None:
        self._script.told.append("end")
        self._told(Failed("ended by signal 15", ""))
        self._told(Ended(143))


class Played(Dashboard):
    """A dashboard whose commands are a script."""

    def __init__(self, script: Script, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.script = script

    def act(self, argv: Sequence[str], told: Callable[[Event], None]) -> Act:
        return self.script.act(argv, told)

    def hand_over(self, argv: Sequence[str]) -> int:
        self.script.handed.append(list(argv))
        return self.script.status


def play(
    stage: Stage,
    act: Callable[[Played, Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
    script: Script | None = None,
    beside: object = None,
) -> None:
    """Runs a dashboard on that stage, once it has looked, and lets `act` do what a test wants."""

    async def inner() -> None:
        app = Played(script or Script(), stage, beside, Path("/"), every=0.1)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.world.looked or bool(stage.stuck))
            await pilot.pause(0.05)
            await act(app, pilot)

    asyncio.run(inner())


async def until(pilot: Pilot[None], holds: Callable[[], bool], what: str = "") -> None:
    """Waits until it holds; fails with the screen where it does not in time."""
    for _ in range(int(_BOUND / 0.02)):
        await pilot.pause(0.02)
        if holds():
            return
    raise AssertionError(f"{what or 'not in time'}; the screen:\n{text_of(pilot.app)}")


def lines_of(app: Any) -> list[str]:
    """The screen's characters, without the spaces at the end of its lines."""
    height = app.size[1]
    screen = app.screen
    strips = screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips[:height]]


def text_of(app: Any) -> str:
    return "\n".join(lines_of(app)) + "\n"


async def opened(pilot: Pilot[None]) -> None:
    """What stands above is there, and its keys count."""
    await until(pilot, lambda: "Esc" in text_of(pilot.app) and len(pilot.app.screen_stack) > 1)


def three() -> Stage:
    return Stage(agent("a-11111"), agent("b-22222"), agent("c-33333"))


async def shows(pilot: Pilot[None], words: str) -> None:
    await until(pilot, lambda: words in text_of(pilot.app), f"{words!r} is not there")


def check(name: str, app: Any) -> None:
    """The screen against tests/dashboard/golden/NAME.txt; UPDATE_GOLDEN=1 writes it anew."""
    found, file = text_of(app), GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found)
    assert found == file.read_text(), f"{name} is not what it was:\n{found}"


__all__ = ["NOON", "BottleError", "Stage", "agent", "asked", "check", "play", "shows", "text_of", "until"]
