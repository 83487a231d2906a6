"""What each action does, from the key to the end: asks, runs a command, tells. One function each.

Invariant: nothing is changed but by a command of the command line, which checks it, asks and records it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from claude_bottle.dashboard.commands import own
from claude_bottle.dashboard.conversation import Outcome, converse
from claude_bottle.dashboard.desk import Desk, read
from claude_bottle.dashboard.reading import of_brief, of_diff, of_launch, of_log
from claude_bottle.dashboard.world import Agent, Launch, key_of
from claude_bottle.errors import BottleError
from claude_bottle.operations.proposals import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.text import Text

    from claude_bottle.dashboard.acting import Act

_FOLLOWING_SECONDS = 0.2


async def new(desk: Desk) -> None:
    """Which agent, which backend, the plan, yes or no; then it comes up in the background."""
    from claude_bottle.dashboard.modals.filtering import Item
    from claude_bottle.dashboard.modals.picker import Picker

    declared, warnings = await read(desk.source.declared)
    running = Counter(agent.name for agent in desk.world.agents)
    items = [
        Item(each.name, f"{each.name} ({running[each.name]} running)", each.description) for each in declared
    ]
    empty = "no agents are declared: claude-bottle init writes a first one"
    agent = await desk.ask(Picker("Which agent?", items, empty))
    for warning in warnings:
        desk.say(warning, "warn")
    if agent is None:
        return
    backend = await _backend(desk)
    if backend is None:
        return
    await _launch(desk, agent, backend, ["start", agent, "--backend", backend, "--detach"])


async def _backend(desk: Desk) -> str | None:
    """The one that works here; the operator's choice where there are more."""
    from claude_bottle.dashboard.modals.filtering import Item
    from claude_bottle.dashboard.modals.picker import Picker

    found = await read(desk.source.readiness)
    usable = [name for name, readiness in found if readiness.ok]
    if len(usable) == 1:
        return usable[0]
    items = [
        Item(name, name, "" if readiness.ok else "not here", "" if readiness.ok else readiness.reason)
        for name, readiness in found
    ]
    return await desk.ask(Picker("Which backend?", items, "there is no backend"))


async def resume(desk: Desk) -> None:
    """A preserved bottle once more."""
    from claude_bottle.dashboard.modals.filtering import Item
    from claude_bottle.dashboard.modals.picker import Picker

    kept, warnings = await read(desk.source.preserved)
    items = [Item(each.slug, each.slug, each.why) for each in kept]
    slug = await desk.ask(Picker("Resume which?", items, "nothing is preserved"))
    for warning in warnings:
        desk.say(warning, "warn")
    if slug is not None:
        await _launch(desk, slug, "", ["resume", slug, "--detach"])


async def _launch(desk: Desk, name: str, backend: str, argv: Sequence[str]) -> None:
    ident = f"+{name} {id(argv)}"

    def agreed(act: Act) -> None:
        desk.launching(ident, name, backend, act)

    outcome = await converse(
        desk, f"Start {name}", argv, agreed=agreed, step=lambda text: desk.step(ident, text)
    )
    if outcome.refused:
        desk.not_launched(ident, "")
    elif outcome.ok and outcome.put:
        desk.launched(ident, outcome.put[-1])
        desk.say(f"{outcome.put[-1]} is up")
    else:
        failure = outcome.failure or f"it ended with status {outcome.status}"
        desk.not_launched(ident, failure)
        desk.say(f"{name} was not started: {failure}", "bad")


async def stop_launch(desk: Desk, launch: Launch) -> None:
    desk.end_launch(launch.ident)


async def log_of_launch(desk: Desk, launch: Launch) -> None:
    """Its steps, as they come."""
    from claude_bottle.dashboard.modals.viewer import Viewer

    viewer = Viewer(f"Start of {launch.agent}")
    left = asyncio.ensure_future(desk.ask(viewer))
    seen: Launch | None = None
    while not left.done():
        now = next((each for each in desk.world.launches if each.ident == launch.ident), seen)
        if now is not None and now != seen:
            seen = now
            viewer.show(of_launch(now))
        await asyncio.wait([left], timeout=_FOLLOWING_SECONDS)
    await left


async def stop(desk: Desk, agent: Agent) -> None:
    """Ends it. Where it had the right pane, the agent that is selected next takes its place."""
    from claude_bottle.dashboard.modals.preflight import Preflight

    told = [("agent", agent.slug), ("then", "its work comes back and its state is preserved; R resumes it")]
    if not await desk.ask(Preflight("Stop", told, [], f"Stop {agent.slug}?")):
        return
    was_beside = desk.beside is not None and await read(desk.beside.shown) == agent.slug
    desk.busy(agent.slug, "stopping")
    try:
        outcome = await converse(
            desk, "Stop", ["stop", agent.slug], step=lambda text: desk.busy(agent.slug, f"stopping: {text}")
        )
    finally:
        desk.busy(agent.slug, "")
    _tell(desk, outcome, f"{agent.slug} is stopped")
    if not outcome.ok:
        return
    desk.gone(agent.slug)
    if was_beside:
        await _slide(desk)


async def _slide(desk: Desk) -> None:
    assert desk.beside is not None
    following = desk.selected_agent()
    if following is not None:
        await _show_beside(desk, following.slug)
    else:
        await read(desk.beside.close)
        desk.shown_beside(None)


async def attach(desk: Desk, agent: Agent) -> None:
    """In the right pane of tmux, else on this terminal."""
    if desk.beside is not None:
        try:
            await _show_beside(desk, agent.slug)
            return
        except BottleError as error:
            desk.say(f"tmux: {error.message}; here is the terminal itself", "warn")
    desk.hand_over(own("attach", agent.slug))


async def _show_beside(desk: Desk, slug: str) -> None:
    from claude_bottle.dashboard.beside import attach_variables

    beside = desk.beside
    assert beside is not None
    await read(lambda: beside.show(slug, own("attach", slug), attach_variables(desk.source.environment)))
    desk.shown_beside(slug)


async def routes(desk: Desk, agent: Agent) -> None:
    _edited(desk, desk.hand_over(own("routes", "edit", agent.slug)), agent.slug)


async def allowlist(desk: Desk, agent: Agent) -> None:
    _edited(desk, desk.hand_over(own("allowlist", "edit", agent.slug)), agent.slug)


async def modify(desk: Desk, waiting: Waiting) -> None:
    _edited(desk, desk.hand_over(own("proposals", "modify", key_of(waiting))), waiting.proposal.id)


def _edited(desk: Desk, status: int, what: str) -> None:
    if status == 0:
        desk.say(f"{what}: done")
    else:
        desk.say(f"{what}: nothing was changed", "warn")


async def view(desk: Desk, waiting: Waiting) -> None:
    title = f"Proposal {waiting.proposal.id} of {waiting.slug}"
    await _look(desk, title, lambda: of_brief(desk.source.brief(waiting)))


async def approve(desk: Desk, waiting: Waiting) -> None:
    from claude_bottle.dashboard.keys import has_bounds
    from claude_bottle.dashboard.modals.approve import Approve

    found = await read(lambda: desk.source.brief(waiting))
    bounds = await desk.ask(Approve(list(found.lines), not has_bounds(waiting)))
    if bounds is not None:
        await _answer(desk, waiting, ["proposals", "approve", key_of(waiting), *bounds.options], "approved")


async def reject(desk: Desk, waiting: Waiting) -> None:
    from claude_bottle.dashboard.modals.reason import Reason
    from claude_bottle.policy.proposals import MAX_TEXT

    title = f"Reject {waiting.proposal.id} of {waiting.slug}"
    reason = await desk.ask(Reason(title, "why, for the agent to read", MAX_TEXT))
    if reason is not None:
        argv = ["proposals", "reject", key_of(waiting), f"--reason={reason}"]
        await _answer(desk, waiting, argv, "rejected")


async def _answer(desk: Desk, waiting: Waiting, argv: Sequence[str], word: str) -> None:
    key = key_of(waiting)
    desk.busy(key, "answering")
    try:
        outcome = await converse(
            desk, f"{waiting.proposal.id} of {waiting.slug}", argv, step=lambda text: desk.say(text)
        )
    finally:
        desk.busy(key, "")
    if outcome.ok:
        desk.answered(key)
    _tell(desk, outcome, f"{waiting.proposal.id} of {waiting.slug} is {word}")


def _tell(desk: Desk, outcome: Outcome, done: str) -> None:
    if outcome.refused:
        desk.say("nothing was changed")
    elif outcome.ok:
        desk.say(done)
    else:
        problems = "; ".join(outcome.said[-2:])
        desk.say(outcome.failure or problems or f"it ended with status {outcome.status}", "bad")


async def diff(desk: Desk, agent: Agent) -> None:
    slug = agent.slug
    await _look(desk, f"What {slug} has changed", lambda: of_diff(desk.source.diff(slug), slug))


async def log(desk: Desk, agent: Agent) -> None:
    await _look(desk, f"Log of {agent.slug}", lambda: of_log(desk.source.log(agent.slug)))


async def _look(desk: Desk, title: str, lines: Callable[[], Iterable[Text]]) -> None:
    """Opens at once, and is filled when there is something to see."""
    from claude_bottle.dashboard.modals.viewer import Viewer

    viewer = Viewer(title)
    left = asyncio.ensure_future(desk.ask(viewer))
    try:
        viewer.show(await read(lambda: list(lines())))
    except BottleError as error:
        viewer.fail(error.message)
    except OSError as error:
        viewer.fail(str(error))
    await left
