"""What has been heard of the world, put together. No input or output, and no clock.

Invariant: what a look has shown stands until another look of the same kind, or the dashboard's own act, says
otherwise. A look that was under way when an agent was ended, or a proposal answered, cannot bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable

from claude_bottle.dashboard.looking import Counted, Looked, News, Trouble
from claude_bottle.dashboard.world import Agent, Launch, World, key_of
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing

_OLD_LOOKS = 2  # so many may still show what is over
_PATIENCE = 8  # looks of any backend in which what has come up must be seen
_STEPS = 500


class Known:
    def __init__(self) -> None:
        self._parts: dict[str, Looked] = {}
        self._listing = Listing((), ())
        self._numbers: dict[str, Numbers] = {}
        self._troubles: dict[str, str] = {}
        self._launches: dict[str, Launch] = {}
        self._ended: dict[str, int] = {}
        self._answered: dict[str, int] = {}
        self._arriving: dict[str, tuple[str, int]] = {}
        self._doing: dict[str, str] = {}
        self.arrived: dict[str, str] = {}  # by the launch's name, until somebody has taken it

    def hear(self, news: News) -> bool:
        """Whether anything is other than before."""
        match news:
            case Looked():
                return self._heard_agents(news)
            case Listing():
                return self._heard_proposals(news)
            case Counted(numbers):
                changed, self._numbers = self._numbers != numbers, dict(numbers)
                return self._troubles.pop("numbers", None) is not None or changed
            case Trouble(about, text):
                changed = self._troubles.get(about) != text
                self._troubles[about] = text
                return changed

    def _heard_proposals(self, news: Listing) -> bool:
        shown = _left_out(self._answered, map(key_of, news.items))
        news = news._replace(items=tuple(item for item in news.items if key_of(item) in shown))
        before, self._listing = self._listing, news
        return self._troubles.pop("proposals", None) is not None or before != news

    def _heard_agents(self, news: Looked) -> bool:
        shown = _left_out(self._ended, (agent.slug for agent in news.agents))
        news = news._replace(agents=tuple(agent for agent in news.agents if agent.slug in shown))
        troubled = self._troubles.pop(news.backend, None) is not None
        arrived = self._age_arrivals({agent.slug for agent in news.agents})
        before = self._parts.get(news.backend)
        self._parts[news.backend] = news
        return troubled or arrived or before != news

    def _age_arrivals(self, seen: set[str]) -> bool:
        waiting, self._arriving = self._arriving, {}
        for ident, (slug, left) in waiting.items():
            if slug in seen or not left:
                self._launches.pop(ident, None)
                self.arrived[ident] = slug
            else:
                self._arriving[ident] = (slug, left - 1)
        return len(waiting) != len(self._arriving)

    def world(self, slow: Iterable[str] = ()) -> World:
        agents = [self._numbered(agent) for part in self._parts.values() for agent in part.agents]
        running = {agent.slug for agent in agents}
        proposals = [item for item in self._listing.items if item.slug in running]
        warnings = [text for part in self._parts.values() for text in part.warnings]
        warnings += [f"{about}: {text}" for about, text in self._troubles.items()]
        return World(
            tuple(sorted(agents, key=lambda agent: (agent.started, agent.slug))),
            tuple(proposals),
            tuple(self._launches.values()),
            (*slow, *dict.fromkeys((*warnings, *self._listing.warnings))),
            looked=bool(self._parts),
        )

    def _numbered(self, agent: Agent) -> Agent:
        found = self._numbers.get(agent.slug)
        if found is None:
            return agent
        return agent._replace(tokens=found.tokens, added=found.added, removed=found.removed)

    def ended(self, slug: str) -> None:
        """It was stopped from here."""
        self._ended[slug] = _OLD_LOOKS
        self._numbers.pop(slug, None)
        for name, part in self._parts.items():
            kept = tuple(agent for agent in part.agents if agent.slug != slug)
            self._parts[name] = part._replace(agents=kept)

    def answered(self, key: str) -> None:
        """A proposal has its answer: it waits no more."""
        items = tuple(item for item in self._listing.items if key_of(item) != key)
        self._listing = self._listing._replace(items=items)
        self._answered[key] = _OLD_LOOKS

    def launching(self, launch: Launch) -> None:
        self._launches[launch.ident] = launch

    def step(self, ident: str, text: str) -> None:
        if (found := self._launches.get(ident)) is not None:
            self._launches[ident] = found._replace(steps=(*found.steps, text)[-_STEPS:])

    def launched(self, ident: str, slug: str) -> None:
        self._ended.pop(slug, None)
        self._arriving[ident] = (slug, _PATIENCE)

    def not_launched(self, ident: str, failure: str) -> None:
        """With a failure its row stays until `forget`."""
        found = self._launches.get(ident)
        if found is not None and failure:
            self._launches[ident] = found._replace(failure=failure)
        else:
            self._launches.pop(ident, None)

    def forget(self, ident: str) -> None:
        self._launches.pop(ident, None)

    def launch(self, ident: str | None) -> Launch | None:
        return self._launches.get(ident) if ident is not None else None

    def do(self, key: str, doing: str) -> None:
        """Something is done to it; nothing is, once `doing` is empty."""
        if doing:
            self._doing[key] = doing
        else:
            self._doing.pop(key, None)

    def doing(self, key: str | None) -> str:
        return self._doing.get(key, "") if key is not None else ""


def _left_out(over: dict[str, int], keys: Iterable[str]) -> set[str]:
    """Those that are to be shown, of what a look has found: what is over stays away for a few looks."""
    found = set(keys)
    for key in found & over.keys():
        over[key] -= 1
        if over[key] < 0:
            del over[key]
    return found - over.keys()
