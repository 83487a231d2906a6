"""The two panes, the lines around them, and what a key starts.

Invariant: what stands on the screen is a picture of `world`, drawn in `_draw` and nowhere else. Each action
runs as a task of its own, so the screen lives on whatever it waits for; what goes wrong in one is told on the
status line.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import ModalScreen, Screen

from claude_bottle.dashboard import flows, keys, rows
from claude_bottle.dashboard.acting import Act, Event
from claude_bottle.dashboard.beside import Beside
from claude_bottle.dashboard.desk import read
from claude_bottle.dashboard.ending import ToldToEnd, raised_by_signal
from claude_bottle.dashboard.filter_line import FilterLine
from claude_bottle.dashboard.keys import AGENTS, PROPOSALS, Facts
from claude_bottle.dashboard.known import Known
from claude_bottle.dashboard.line import Line
from claude_bottle.dashboard.looking import EVERY, Looking, News
from claude_bottle.dashboard.paint import block
from claude_bottle.dashboard.rows import AGENT_COLUMNS, PROPOSAL_COLUMNS, Part
from claude_bottle.dashboard.source import Services
from claude_bottle.dashboard.table import Table
from claude_bottle.dashboard.world import Agent, Launch, World, key_of
from claude_bottle.errors import BottleError

T = TypeVar("T")
_BESIDE_SECONDS = 3.0
_MESSAGE_SECONDS = 8.0  # for which a message stands; one of a failure stands until the operator moves on


class Dashboard(App[None]):
    CSS = """
    #header, #status, #footer { background: $panel; }
    #proposals-title, #agents-title { background: $boost; }
    #proposals { height: 1fr; min-height: 2; }
    #agents { height: 2fr; min-height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(name, f"press('{name}')", show=False) for name in keys.NAMES),
        Binding("escape", "calm", show=False),
    ]
    COMMAND_PALETTE_BINDING = "colon"
    TITLE = "claude-bottle"

    class Heard(Message):
        """News from a thread that looks at the world."""

        def __init__(self, news: News) -> None:
            super().__init__()
            self.news = news

    def __init__(
        self, source: Services, beside: Beside | None, folder: Path, *, every: float = EVERY
    ) -> None:
        # Textual's own way without colour is grey on grey, and black on black with a terminal's own colours.
        super().__init__(ansi_color=True if "NO_COLOR" in source.environment else None)
        self.source = source
        self.beside = beside
        self._folder = folder
        self._known = Known()
        self._looking = Looking(source, lambda news: self.post_message(self.Heard(news)), every)
        self._coming: dict[str, Act] = {}
        self._tables = {
            PROPOSALS: Table(PROPOSAL_COLUMNS, "", id=PROPOSALS),
            AGENTS: Table(AGENT_COLUMNS, "", id=AGENTS),
        }
        self._lines = {
            name: Line(id=name) for name in ("header", "proposals-title", "agents-title", "status")
        }
        self._lines["footer"] = Line(id="footer", clicked=self._footer_clicked)
        self._filter_line = FilterLine(self._filtered, self._filter_left, id="filter")
        self._letters = {PROPOSALS: "", AGENTS: ""}
        self._filtering = AGENTS
        self._will_draw = False
        self._message: Part | None = None
        self._message_ends = float("inf")
        self._beside: str | None = None  # the slug in the right pane
        self._pane = AGENTS
        self._footer: tuple[keys.Key, ...] = ()

    def compose(self) -> ComposeResult:
        yield self._lines["header"]
        for pane in (PROPOSALS, AGENTS):
            yield self._lines[f"{pane}-title"]
            yield self._tables[pane]
        yield self._filter_line
        yield self._lines["status"]
        yield self._lines["footer"]

    def leave_from_outside(self, status: int) -> None:
        """From a signal's handler, whatever the loop is about."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(partial(self.exit, return_code=status))

    def on_mount(self) -> None:
        self._tables[AGENTS].focus()
        self._draw()
        self._looking.start()
        self.set_interval(EVERY, self._turn)
        if self.beside is not None:
            self.set_interval(_BESIDE_SECONDS, self._look_beside)

    def on_unmount(self) -> None:
        self._looking.stop()

    # What is there

    @property
    def world(self) -> World:
        return self._known.world(self._looking.slow())

    @property
    def pane(self) -> str:
        """The one that has the focus, or had it last."""
        for name in (PROPOSALS, AGENTS):
            if self._tables[name].has_focus:
                self._pane = name
        return self._pane

    @property
    def facts(self) -> Facts:
        return self._facts(self.world)

    def _facts(self, world: World) -> Facts:
        key = self._tables[self.pane].selected
        facts = Facts(self.pane, busy=bool(self._known.doing(key)))
        if self.pane == PROPOSALS:
            return facts._replace(proposal=_first(item for item in world.proposals if key_of(item) == key))
        agent = _first(agent for agent in world.agents if agent.slug == key)
        return facts._replace(agent=agent, launch=self._known.launch(key))

    # What is shown

    def on_dashboard_heard(self, message: Heard) -> None:
        if self._known.hear(message.news) and not self._will_draw:
            self._will_draw = True
            self.call_later(self._draw_heard)  # once for all the news that are there by then

    def _draw_heard(self) -> None:
        self._will_draw = False
        self._draw()

    def _turn(self) -> None:
        """Each second: what time alone changes."""
        if time.monotonic() > self._message_ends:
            self._message = None
        self._draw()

    def _draw(self) -> None:
        world = self.world
        self._draw_agents(world)
        asked = rows.proposal_rows(world.proposals, time.time())
        letters = self._letters[PROPOSALS]
        self._tables[PROPOSALS].show(rows.matching(asked, letters), rows.empty(PROPOSALS, world, letters))
        self._draw_lines(world)

    def _draw_agents(self, world: World) -> None:
        table, letters = self._tables[AGENTS], self._letters[AGENTS]
        found = [
            rows.agent_row(agent, beside=agent.slug == self._beside, busy=self._known.doing(agent.slug))
            for agent in world.agents
        ]
        found += [rows.launch_row(launch) for launch in world.launches]
        coming = self._known.arrived.pop(table.selected or "", None)
        table.show(rows.matching(found, letters), rows.empty(AGENTS, world, letters))
        table.select(coming)

    def _draw_lines(self, world: World | None = None) -> None:
        world = world or self.world
        facts = self._facts(world)
        self._lines["header"].show(rows.header(world))
        for pane, count in ((PROPOSALS, len(world.proposals)), (AGENTS, len(world.agents))):
            focused = pane == facts.pane
            self._lines[f"{pane}-title"].show(rows.title(pane, count, self._letters[pane], focused=focused))
        self._lines["status"].show((self._message or rows.about(facts),))
        self._footer = rows.footer(facts, self.size.width - 1)
        self._lines["footer"].show([Part(rows.label(key)) for key in self._footer])

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw_lines)  # by the new size, which is not taken yet

    def on_table_selected(self, message: Table.Selected) -> None:
        if message.moved:
            self._message = None
        self._draw_lines()

    def on_descendant_focus(self) -> None:
        self._draw_lines()

    # What is done

    def action_press(self, name: str) -> None:
        self.action_do(keys.action_of(name, self.pane))

    def action_do(self, action: str) -> None:
        """An action by its name: refused with the reason, or begun."""
        if isinstance(self.screen, ModalScreen):
            return
        facts = self.facts
        if why := keys.refusal(action, facts):
            self.say(why, "warn")
            return
        begin = getattr(self, f"_begin_{action}", None)
        if begin is not None:
            begin()
            return
        flow = self._flow(action, facts)
        self.run_worker(self._carried(flow), group=action, exit_on_error=False)

    def _flow(self, action: str, facts: Facts) -> Callable[[], Awaitable[None]]:
        flow = getattr(flows, action)
        if keys.BY_ACTION[action].pane == PROPOSALS:
            return partial(flow, self, facts.proposal)
        if keys.BY_ACTION[action].pane != AGENTS:
            return partial(flow, self)
        if facts.launch is not None:
            return partial(flows.log_of_launch if action == "log" else flows.stop_launch, self, facts.launch)
        return partial(flow, self, facts.agent)

    async def _carried(self, flow: Callable[[], Awaitable[None]]) -> None:
        try:
            await flow()
        except BottleError as error:
            self.say(f"{error.message}{f': {error.hint}' if error.hint else ''}", "bad")
        except OSError as error:
            self.say(str(error), "bad")
        self._looking.nudge()

    def _begin_leave(self) -> None:
        self.exit()

    def _begin_other_pane(self) -> None:
        self._tables[AGENTS if self.pane == PROPOSALS else PROPOSALS].focus()

    def _begin_filter(self) -> None:
        self._filtering = self.pane
        self._filter_line.open(self._letters[self._filtering])

    def _begin_help(self) -> None:
        from claude_bottle.dashboard.modals.help import Help

        self.push_screen(Help(keys.sections()))

    def _begin_command_palette(self) -> None:
        self.action_command_palette()

    def action_calm(self) -> None:
        """Esc: all rows again, and no message."""
        self._message = None
        self._letters[self.pane] = ""
        self._draw()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: our own actions, and the theme."""
        for key in keys.KEYS:
            if key.action != "command_palette":
                yield SystemCommand(key.label, key.told, partial(self.action_do, key.action))
        yield SystemCommand("theme", "other colours", self.action_change_theme)

    def _footer_clicked(self, number: int) -> None:
        if number < len(self._footer):
            self.action_do(self._footer[number].action)

    def on_table_opened(self) -> None:
        self.action_do("view" if self.pane == PROPOSALS else "attach")

    def _filtered(self, letters: str) -> None:
        self._letters[self._filtering] = letters
        self._draw()

    def _filter_left(self) -> None:
        self._tables[self._filtering].focus()

    def _look_beside(self) -> None:
        async def look() -> None:
            assert self.beside is not None
            self.shown_beside(await read(self.beside.shown))

        self.run_worker(look(), group="beside", exclusive=True, exit_on_error=False)

    def _fatal_error(self) -> None:
        """Textual's own would print every variable, and so what the environment holds."""
        told = "".join(traceback.format_exception(*sys.exc_info(), limit=-8))
        self.panic(block(f"{told}\nthe dashboard has failed; the agents go on"))

    # What a flow may do: see desk.Desk

    def say(self, text: str, tone: str = "") -> None:
        self._message = rows.part(text, tone, 500)
        self._message_ends = float("inf") if tone == "bad" else time.monotonic() + _MESSAGE_SECONDS
        self._draw_lines()

    async def ask(self, modal: ModalScreen[T]) -> T | None:
        return await self.push_screen_wait(modal)

    def act(self, argv: Sequence[str], told: Callable[[Event], None]) -> Act:
        return Act(argv, told, self.source.environment, self._folder)

    def hand_over(self, argv: Sequence[str]) -> int:
        from claude_bottle.dashboard.terminal import hand_over

        try:
            with raised_by_signal():
                return hand_over(self, argv, self.source.environment)
        except ToldToEnd as told:
            self.exit(return_code=told.status)
            return told.status

    def launching(self, ident: str, agent: str, backend: str, act: Act) -> None:
        self._coming[ident] = act
        self._known.launching(Launch(ident, agent, backend))
        self._draw()
        self._tables[AGENTS].select(ident)

    def step(self, ident: str, text: str) -> None:
        self._known.step(ident, text)
        self._draw()

    def launched(self, ident: str, slug: str) -> None:
        self._coming.pop(ident, None)
        self._known.launched(ident, slug)
        self._looking.nudge()

    def not_launched(self, ident: str, failure: str) -> None:
        self._coming.pop(ident, None)
        self._known.not_launched(ident, failure)
        self._draw()

    def end_launch(self, ident: str) -> None:
        """One that comes up is given up, one that has failed goes from the list."""
        if (act := self._coming.get(ident)) is not None:
            act.end()
        else:
            self._known.forget(ident)
        self._draw()

    def busy(self, key: str, doing: str) -> None:
        self._known.do(key, doing)
        self._draw()

    def gone(self, slug: str) -> None:
        self._known.ended(slug)
        self._draw()

    def answered(self, key: str) -> None:
        self._known.answered(key)
        self._draw()

    def selected_agent(self) -> Agent | None:
        key = self._tables[AGENTS].selected
        return _first(agent for agent in self.world.agents if agent.slug == key)

    def shown_beside(self, slug: str | None) -> None:
        if self._beside != slug:
            self._beside = slug
            self._draw()


def _first(found: Iterable[T]) -> T | None:
    return next(iter(found), None)
