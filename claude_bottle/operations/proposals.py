"""What agents ask for, over all running bottles, and the operator's answers. For the command line and others.

Invariant: an answer goes the way of every change of a bottle (`deciding`), so it is audited before it takes
effect, and the first one stands. What was asked for is an agent's: it is checked here as if nobody had done
so before, and never gets a credential, an upstream or a wildcard but from the operator: the upstream of a
host is the one that the operator's rules for it have.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.backend import enumerate_active_agents
from claude_bottle.backend.base import ActiveAgent
from claude_bottle.errors import BottleError, NotFoundError, UsageError
from claude_bottle.manifest.problems import ManifestError
from claude_bottle.manifest.rules_text import check_route, plain
from claude_bottle.operations import deciding, noting
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Change, Done, Seen, Step
from claude_bottle.policy import edits
from claude_bottle.policy.live import Bounds, LivePolicy
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    APPROVED,
    CAPABILITY,
    MAX_TEXT,
    MODIFIED,
    REJECTED,
    Answer,
    Proposal,
    Queue,
)
from claude_bottle.policy.proposals_json import proposal_to_json
from claude_bottle.policy.snapshot import route_to_json
from claude_bottle.state.paths import is_slug, list_slugs

_SECONDS = 3.0
_LEAST_OF_ID = 4  # digits: fewer could mean another one by the time that they are typed
_MAX_WARNING = 300


class Waiting(NamedTuple):
    """A proposal, and whose it is."""

    slug: str
    agent: str
    backend: str
    proposal: Proposal


class Whose(NamedTuple):
    """A running bottle that can be asked."""

    slug: str
    agent: str
    backend: str


class Said(NamedTuple):
    """All proposals of one bottle, or why they are not known."""

    items: tuple[Waiting, ...] = ()
    warning: str = ""


class Listing(NamedTuple):
    """The oldest first, whatever bottle it is of. `warnings` tell of bottles that did not say."""

    items: tuple[Waiting, ...]
    warnings: tuple[str, ...]


class Terms(NamedTuple):
    """For how long and how often; without either until the bottle ends."""

    seconds: float | None = None
    uses: int | None = None

    def bounds(self, now: float) -> Bounds:
        return Bounds(None if self.seconds is None else now + self.seconds, self.uses)


class Given(NamedTuple):
    """What an operator gives instead of what was asked for."""

    route: Route | None = None
    packages: tuple[str, ...] = ()
    dockerfile: str = ""


def listing(context: Context, *, answered: bool = False, seconds: float = _SECONDS) -> Listing:
    """Of all running bottles, each asked at the same time and with a time limit; one that fails is a warning.

    A decision that lost its process gets its outcome on the way, and what nobody has seen yet is noted in the
    audit log.
    """
    if not list_slugs(context.home):
        return Listing((), ())
    agents = enumerate_active_agents(context.home.state, seconds)
    slow = [f"{row.backend_name}: {row.warning}" for row in agents if not is_slug(row.slug)]
    said = ask_all(context, [_whose(row) for row in agents if is_slug(row.slug)], seconds)
    return listed(said.values(), slow, answered=answered)


def _whose(row: ActiveAgent) -> Whose:
    return Whose(row.slug, row.agent_name, row.backend_name)


def listed(said: Iterable[Said], warnings: Iterable[str] = (), *, answered: bool = False) -> Listing:
    """What several bottles have said, the oldest proposal first. Pure."""
    everything = list(said)
    items = [item for one in everything for item in one.items if answered or item.proposal.answer is None]
    ordered = sorted(items, key=lambda item: (item.proposal.at, item.slug, item.proposal.id))
    return Listing(tuple(ordered), (*warnings, *(one.warning for one in everything if one.warning)))


def ask_all(context: Context, bottles: Sequence[Whose], seconds: float) -> dict[str, Said]:
    """All at the same time. A thread that does not come back in time is left behind; it is a daemon."""
    answers: queue.Queue[tuple[str, Said]] = queue.Queue()
    for whose in bottles:
        threading.Thread(target=_ask, args=(context, whose, seconds, answers), daemon=True).start()
    deadline, waiting = time.monotonic() + seconds, {whose.slug for whose in bottles}
    found: dict[str, Said] = {}
    while waiting:
        try:
            slug, said = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            late = {slug: Said((), f"{slug}: no answer within {seconds:.2g} s") for slug in sorted(waiting)}
            return found | late
        waiting.discard(slug)
        found[slug] = said
    return found


def _ask(context: Context, whose: Whose, seconds: float, answers: queue.Queue[tuple[str, Said]]) -> None:
    said = Said()
    try:
        bottle, _ = deciding.running(context, whose.slug)
        with suppress(BlockingIOError):  # somebody decides at this moment: nothing has lost its process
            deciding.recover(context, whose.slug, bottle, wait=False)
        seen = deciding.look(bottle, seconds)
        unnoted = noting.unnoted(context.home, whose.slug, whose.agent, seen.queue.proposals)
        said = Said(tuple(Waiting(*whose, item) for item in seen.queue.proposals), unnoted)
    except (BottleError, OSError) as error:
        said = Said((), f"{whose.slug}: {error}"[:_MAX_WARNING])
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one bottle must not hide the others
        said = Said((), f"{whose.slug}: {type(error).__name__}")
    answers.put((whose.slug, said))


def find(context: Context, ident: str) -> Waiting:
    """By its name, without "p-" if you like, or by the beginning of it; SLUG/ID says whose it must be.

    Raises NotFoundError; UsageError where several are meant.
    """
    slug, _, name = ident.rpartition("/")
    digits = name.removeprefix("p-")
    if len(digits) < _LEAST_OF_ID:
        raise UsageError(f"{ident!r} is too short for a proposal", f"give {_LEAST_OF_ID} digits or more")
    everything = listing(context, answered=True)
    found = [
        item
        for item in everything.items
        if item.proposal.id.startswith(f"p-{digits}") and slug in ("", item.slug)
    ]
    if not found:
        hint = "\n".join(everything.warnings) or "claude-bottle proposals list"
        raise NotFoundError(f"there is no proposal {ident!r}", hint)
    if len(found) > 1:
        which = ", ".join(f"{item.slug}/{item.proposal.id}" for item in found[:10])
        raise UsageError(f"{ident!r} may be one of {len(found)} proposals", which)
    return found[0]


def approve(
    context: Context,
    waiting: Waiting,
    terms: Terms,
    given: Given | None = None,
    *,
    finish: deciding.Finish | None = None,
    step: Step = lambda _: None,
) -> Done:
    """Grants what was asked for, or what is given instead. `finish` is what more belongs to the decision.

    Raises BottleError: answered already, not to be had, or not carried out.
    """
    return _decide(context, waiting, granting(waiting.proposal.id, terms, given), step, finish)


def reject(context: Context, waiting: Waiting, reason: str, *, step: Step = lambda _: None) -> Done:
    """Says no, and why. Raises BottleError."""
    return _decide(context, waiting, rejecting(waiting.proposal.id, reason), step)


def _decide(
    context: Context,
    waiting: Waiting,
    plan: deciding.Plan,
    step: Step,
    finish: deciding.Finish | None = None,
) -> Done:
    """What was asked is in the audit log before what is answered; where it cannot be, nothing is."""
    noting.note(context.home, waiting.slug, waiting.agent, [waiting.proposal])
    return deciding.carry_out(context, waiting.slug, deciding.DECISION, plan, finish=finish, step=step)


def granting(ident: str, terms: Terms, given: Given | None = None) -> deciding.Plan:
    """The plan to say yes. Pure."""

    def plan(seen: Seen, word: str) -> Change:
        item = pending(seen.queue, ident)
        wanted = given or asked_for(item)
        state = APPROVED if given is None or given == asked_for(item) else MODIFIED
        bounds = terms.bounds(seen.now)
        if item.asked.kind == CAPABILITY:
            said = Answer(state, word, seen.now, packages=wanted.packages, dockerfile=wanted.dockerfile)
            return Change(None, _told(item, said), ((ident, said),))
        route = by_its_way(seen, allowable(wanted.route, own=given is not None))
        said = Answer(state, word, seen.now, route=route, bounds=bounds)
        after = with_route(seen, route, bounds, word, f"proposal {ident}")
        return Change(None if after is seen.live else after, _told(item, said), ((ident, said),))

    return plan


def rejecting(ident: str, reason: str) -> deciding.Plan:
    """The plan to say no. Pure."""
    if len(reason) > MAX_TEXT:
        raise UsageError(f"the reason is longer than {MAX_TEXT} characters")

    def plan(seen: Seen, word: str) -> Change:
        item = pending(seen.queue, ident)
        said = Answer(REJECTED, word, seen.now, reason=reason)
        return Change(None, _told(item, said), ((ident, said),))

    return plan


def pending(proposals: Queue, ident: str) -> Proposal:
    """Raises BottleError for one that has its answer, or is not there any more."""
    found = proposals.find(ident)
    if found is None:
        raise BottleError(f"there is no proposal {ident} any more", "claude-bottle proposals list --all")
    if found.answer is not None:
        by = f"by decision {found.answer.decision}" if found.answer.decision else "by itself"
        raise BottleError(
            f"{ident} was {found.state} already, {by}: that stands", "claude-bottle audit show tells by whom"
        )
    return found


def asked_for(item: Proposal) -> Given:
    return Given(item.asked.route, item.asked.packages, item.asked.dockerfile)


def allowable(route: Route | None, *, own: bool) -> Route:
    """As the manifest would take it; `own` is what an operator has written. Raises BottleError."""
    if route is None:
        raise BottleError("it names no host that could be allowed", "reject it, or modify it")
    if not own and (route.auth or route.upstream or route.detectors or route.host.startswith("*")):
        raise BottleError("it asks for what only an operator gives", "reject it, or modify it")
    try:
        return check_route(plain(route))
    except ManifestError as error:
        raise UsageError(f"this cannot be allowed: {error.message}", "reject it, or modify it") from error


def by_its_way(seen: Seen, route: Route) -> Route:
    """Where a request goes to is its host's, never its rule's: another way would be refused."""
    return edits.led((item.route for item in seen.live.routes), route)


def with_route(seen: Seen, route: Route, bounds: Bounds, word: str, origin: str) -> LivePolicy:
    """The policy with this rule, or the same one where it is allowed already. Raises UsageError."""
    try:
        return edits.added(seen.live, [route._replace(origin=origin)], bounds, word)
    except edits.EditError as error:
        raise UsageError(str(error), "reject it, or modify it") from error


def _told(item: Proposal, said: Answer) -> Mapping[str, object]:
    """For the audit log: all that was asked, and all that was answered."""
    granted = {
        "route": said.route and route_to_json(said.route),
        "until": said.bounds.until,
        "uses": said.bounds.uses,
        "packages": list(said.packages),
        "dockerfile": said.dockerfile,
    }
    return {
        "proposal": item.id,
        "answer": said.state,
        "reason": said.reason,
        "asked": proposal_to_json(item),
        "granted": None if said.state == REJECTED else granted,
    }
