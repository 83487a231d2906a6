"""Looks at the world all the time, in threads, so that nothing that is slow can hold the screen up.

Theory. Each backend is asked in a thread of its own, and so are the bottles for what they ask, and the
numbers: what hangs keeps its own thread and no other. The threads are daemons, as a thread that hangs must
not keep the dashboard from ending. What they see is told as a message; nothing else of the dashboard is
touched from them.

Invariant: a thread tells only of what it has seen since it was last told to look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from claude_bottle.dashboard.world import Agent
from claude_bottle.errors import BottleError
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing
from claude_bottle.text import shown

EVERY = 1.0  # seconds
_OF_AGENTS = ("proposals", "numbers")  # looks at what runs: again at once where that is other than before
SLOW = 3.0  # seconds after which a backend that has not answered is shown as such


class Looked(NamedTuple):
    """What a backend said."""

    backend: str
    agents: tuple[Agent, ...]
    warnings: tuple[str, ...]


class Counted(NamedTuple):
    """By slug: what is known of each so far."""

    numbers: Mapping[str, Numbers]


class Source(Protocol):
    """Where the dashboard's knowledge comes from. All of it may block; each is called by one thread."""

    @property
    def backends(self) -> Sequence[str]: ...

    def agents(self, backend: str) -> tuple[Sequence[Agent], Sequence[str]]:
        """What runs there, and what is wrong. Raises BottleError, OSError."""
        ...

    def proposals(self, agents: Sequence[Agent]) -> Listing:
        """What waits for an answer, of these. Raises BottleError, OSError."""
        ...

    def count(self, agents: Sequence[Agent]) -> Counted:
        """What is known of their transcripts and workspaces. Raises BottleError, OSError."""
        ...


class Trouble(NamedTuple):
    """A look that came to nothing; what was known before stays."""

    about: str
    text: str


News = Looked | Listing | Counted | Trouble


class Looking:
    """From `start` to `stop`; `nudge` has everything looked at again at once."""

    def __init__(self, source: Source, told: Callable[[News], object], every: float = EVERY) -> None:
        self._source = source
        self._told = told
        self._every = every
        self._over = False
        self._bells: dict[str, threading.Event] = {}
        self._parts: dict[str, tuple[Agent, ...]] = {}
        self._asked: dict[str, float] = {}  # backends that have not answered yet, and since when

    def start(self) -> None:
        self._bells = {name: threading.Event() for name in (*self._source.backends, *_OF_AGENTS)}
        for name in self._source.backends:
            self._thread(name, lambda name=name: self._backend(name))  # type: ignore[misc]
        self._thread("proposals", lambda: self._tell(self._source.proposals(self.agents)))
        self._thread("numbers", self._count)

    def stop(self) -> None:
        self._over = True
        self.nudge()

    def nudge(self) -> None:
        for bell in self._bells.values():
            bell.set()

    @property
    def agents(self) -> tuple[Agent, ...]:
        return tuple(agent for part in list(self._parts.values()) for agent in part)

    def slow(self) -> list[str]:
        """Backends that keep us waiting, in words."""
        now = time.monotonic()
        late = {name: now - since for name, since in list(self._asked.items()) if now - since > SLOW}
        return [f"{name}: no answer for {seconds:.0f} s" for name, seconds in sorted(late.items())]

    def _thread(self, name: str, look: Callable[[], object]) -> None:
        bell = self._bells[name]

        def loop() -> None:
            while not self._over:
                try:
                    look()
                except (BottleError, OSError) as error:
                    self._tell(Trouble(name, shown(error)))
                except Exception as error:  # noqa: BLE001 - a thread that ends in silence would show old news for ever
                    self._tell(Trouble(name, f"{type(error).__name__}: {shown(error)}"))
                bell.wait(self._every)
                bell.clear()

        threading.Thread(target=loop, name=f"look-{name}", daemon=True).start()

    def _tell(self, news: News) -> None:
        if not self._over:
            self._told(news)

    def _backend(self, name: str) -> None:
        self._asked[name] = time.monotonic()
        try:
            agents, warnings = self._source.agents(name)
        finally:
            self._asked.pop(name, None)
        before, self._parts[name] = self._parts.get(name, ()), tuple(agents)
        if {agent.slug for agent in before} != {agent.slug for agent in agents}:
            for about in _OF_AGENTS:
                self._bells[about].set()
        self._tell(Looked(name, tuple(agents), tuple(warnings)))

    def _count(self) -> None:
        self._tell(self._source.count(self.agents))
