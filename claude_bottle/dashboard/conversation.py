"""A command that runs beside, and what it asks of the operator on its way.

Invariant: a command goes on past a question only by the operator's own answer to that question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.dashboard.acting import Act, Ask, Confirm, Ended, Event, Failed, Paired, Put, Said, Stepped
from claude_bottle.dashboard.desk import Desk
from claude_bottle.errors import EXIT_OK


class Outcome(NamedTuple):
    """`put` is its data, `said` its talk; `refused` where the operator said no."""

    status: int
    put: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    failure: str = ""
    refused: bool = False

    @property
    def ok(self) -> bool:
        return self.status == EXIT_OK and not self.refused and not self.failure


def _nothing(_: object) -> None:
    return


async def converse(
    desk: Desk,
    title: str,
    argv: Sequence[str],
    *,
    agreed: Callable[[Act], object] = _nothing,
    step: Callable[[str], object] = _nothing,
) -> Outcome:
    """Runs a command to its end. `agreed` is called at each yes; `step` hears how far it is.

    Raises BottleError where it cannot be started.
    """
    events: asyncio.Queue[Event] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def told(event: Event) -> None:
        with suppress(RuntimeError):  # the dashboard has ended: the command goes on without it
            loop.call_soon_threadsafe(events.put_nowait, event)

    act = desk.act(argv, told)
    pairs: list[tuple[str, str]] = []
    said: list[str] = []
    put: list[str] = []
    failure, refused = "", False
    while True:
        match await events.get():
            case Paired(label, text):
                pairs.append((label, text))
            case Said(text):
                said.append(text)
                step(text)
            case Stepped(name, ms):
                step(f"{name} {ms:.0f} ms")
            case Put(line):
                put.append(line)
            case Confirm(question):
                yes = await _confirmed(desk, title, pairs, said, question)
                refused = not yes
                act.confirm(yes)
                if yes:
                    agreed(act)
                pairs.clear()
            case Ask(question):
                await _answer(desk, act, question)
            case Failed(message, hint):
                failure = f"{message}: {hint}" if hint else message
            case Ended(status):
                return Outcome(status, tuple(put), tuple(said), failure, refused)


async def _confirmed(
    desk: Desk, title: str, pairs: Sequence[tuple[str, str]], said: Sequence[str], question: str
) -> bool:
    from claude_bottle.dashboard.modals.preflight import Preflight

    return await desk.ask(Preflight(title, list(pairs), list(said), question)) is True


async def _answer(desk: Desk, act: Act, question: str) -> None:
    from claude_bottle.dashboard.modals.ask import Ask as Question

    value = await desk.ask(Question(question))
    if value is None:
        act.give_up()
    else:
        act.answer(value)
