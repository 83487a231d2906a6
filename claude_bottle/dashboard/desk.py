"""What a flow has at hand: the operator, the commands, the world. The app is one; tests may bring another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from textual.screen import ModalScreen

    from claude_bottle.dashboard.acting import Act, Event
    from claude_bottle.dashboard.beside import Beside
    from claude_bottle.dashboard.source import Services
    from claude_bottle.dashboard.world import Agent, World

T = TypeVar("T")


class Desk(Protocol):
    """Everything here belongs to the event loop's thread."""

    source: Services
    beside: Beside | None  # None outside of tmux

    @property
    def world(self) -> World: ...

    def say(self, text: str, tone: str = "") -> None:
        """On the status line, until there is something newer."""

    async def ask(self, modal: ModalScreen[T]) -> T | None:
        """What the operator answers; None where he leaves it."""

    def act(self, argv: Sequence[str], told: Callable[[Event], None]) -> Act:
        """Starts a command that talks through a pipe. Raises BottleError."""

    def hand_over(self, argv: Sequence[str]) -> int:
        """The operator's terminal to a command, until it ends; where it fails, its words stay until they
        were seen. Raises BottleError.
        """

    def launching(self, ident: str, agent: str, backend: str, act: Act) -> None:
        """From now on a row shows that it comes up."""

    def step(self, ident: str, text: str) -> None: ...

    def launched(self, ident: str, slug: str) -> None:
        """It is up, by this name; its row is the agent's from now on."""

    def not_launched(self, ident: str, failure: str) -> None:
        """Without a failure the row goes."""

    def end_launch(self, ident: str) -> None:
        """One that comes up is given up, one that has failed goes from the list."""

    def busy(self, key: str, doing: str) -> None:
        """Something is done to an agent or a proposal; nothing is, once `doing` is empty."""

    def gone(self, slug: str) -> None:
        """It is known to have ended: its row goes before anybody has looked."""

    def answered(self, key: str) -> None:
        """A proposal has its answer: its row goes before anybody has looked."""

    def selected_agent(self) -> Agent | None:
        """The agent under the cursor of its pane, whichever has the focus."""

    def shown_beside(self, slug: str | None) -> None:
        """Which agent is in the right pane, by what was just done."""


async def read(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in a thread that keeps nobody from leaving."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[T] = loop.create_future()

    def settle(act: Callable[[], object]) -> None:
        if not found.done():
            act()

    def run() -> None:
        act: Callable[[], object]
        try:
            act = partial(found.set_result, work())
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            act = partial(found.set_exception, error)
        with suppress(RuntimeError):  # the dashboard has ended meanwhile
            loop.call_soon_threadsafe(settle, act)

    threading.Thread(target=run, daemon=True).start()
    return await found
