"""A capability change: the same bottle once more, on an image with what was approved, and its agent goes on.

    build the image -> note it -> the agent has its answer -> lock -> capture, stop -> launch, prove
    -> what it may reach is what it was -> claude goes on with `--continue` and a message

Invariant: until the old bottle is stopped nothing has changed, and whatever fails after that brings the old
bottle back. It takes effect when the new bottle was proved: only then its state says so. A process that is
killed on the way leaves a note (`state.additions`), and `resume` brings back what the state says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Bottle, Progress
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.operations import deciding, picture
from claude_bottle.operations import resume as resuming
from claude_bottle.operations.archive import said
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import Ask, private_environment, read_credentials
from claude_bottle.operations.launch import Launched
from claude_bottle.operations.preflight import describe_route
from claude_bottle.operations.settle import take_down
from claude_bottle.policy.additions import Additions, check_additions
from claude_bottle.policy.live import UNBOUNDED, LivePolicy
from claude_bottle.policy.model import Route
from claude_bottle.state import additions, store
from claude_bottle.state.metadata import Metadata

_TOLD_SECONDS = 15.0
_REST_SECONDS = 5.0
_LOOK_SECONDS = 0.2

Agree = Callable[[Sequence[picture.Change]], bool]


class Planned(NamedTuple):
    """A rebuild whose image is there. The old bottle runs, and nothing of it has changed."""

    metadata: Metadata
    before: Additions
    after: Additions
    offer: resuming.Offer
    ask: Ask  # knows the answers already

    @property
    def new(self) -> Additions:
        return self.after.without(self.before)


class Rebuilt(NamedTuple):
    """The bottle runs with what was approved. `problems` are what went wrong on the way, a line each."""

    additions: Additions
    problems: tuple[str, ...]


def refusal(metadata: Metadata) -> str | None:
    """Why nothing can be added to the file system of this bottle; for `show`, and for the agent."""
    if "packages" in load_backend(metadata.backend).handles:
        return None
    return (
        f"the backend {metadata.backend} has no image: the bottle shows the tools of this host. What the host"
        " has is there; anything else can only be put into the bottle's own home"
    )


def fault(metadata: Metadata, wanted: Additions) -> str:
    """Why this cannot be added to this bottle; empty where it can. For `show`."""
    if why := refusal(metadata):
        return why
    try:
        check_additions(wanted)
    except ValueError as error:
        return str(error)
    return ""


def build(
    context: Context,
    slug: str,
    packages: Sequence[str],
    dockerfile: str,
    progress: Progress,
    ask: Ask,
    agree: Agree = lambda changes: False,
) -> Planned:
    """Everything that may fail while the old bottle runs; best done before the agent is answered.

    `agree` is asked where the manifest says by now more, or less, than when the bottle began. Raises
    BottleError; then nothing has changed.
    """
    bottle, metadata = deciding.running(context, slug)
    if why := refusal(metadata):
        raise UsageError(why, "reject the proposal with this reason")
    before = additions.load(context.home.bottle(slug))
    after = before.plus(_checked(packages, dockerfile))
    offer = resuming.offer(context, metadata, after)
    granted = [item.route for item in deciding.look(bottle).live.routes if item.bounds == UNBOUNDED]
    other = _other_changes(offer, after.without(before), granted)
    if other and not agree(other):
        what = " ".join(other[0]).strip()
        raise BottleError(
            f"the manifest has changed since {slug} began: {what}",
            f"look at it: claude-bottle stop {slug}, then claude-bottle resume {slug}",
        )
    remembered = _Remembered(ask)
    private_environment(offer.prepared.bottle.env, context.environment, remembered)
    read_credentials(context.runner, context.environment, offer.prepared.plan.request.policy.routes)
    offer.prepared.backend.build(offer.prepared.plan, progress)
    return Planned(metadata, before, after, offer, remembered)


def rebuild(context: Context, planned: Planned, decision: str, progress: Progress) -> Rebuilt:
    """Carries out what was built and approved; `decision` is the word of the approval.

    Raises BottleError: then the old bottle runs again, or the message says that it does not.
    """
    slug = planned.metadata.slug
    paths = context.home.bottle(slug)
    with ExitStack() as lock:
        with store.explained(context.home):
            additions.begin(paths, additions.Rebuild(decision, planned.after))
        try:
            bottle, metadata = deciding.running(context, slug)
            _await_told(bottle, decision)
            _await_rest(context, metadata)
            lock.enter_context(store.locked(paths))
            bottle, metadata = deciding.running(context, slug)
            before = deciding.look(bottle).live
        except BaseException:
            additions.end(paths)
            raise
        settled = take_down(context, metadata, bottle, f"it is rebuilt with {planned.new.describe()}")
        failure = ""
        try:
            launched, problems = resuming.again(context, planned.offer, progress, planned.ask)
        except (BottleError, OSError) as error:
            failure = said(error)
            launched, problems = _bring_back(context, planned, error, progress)
        problems = [*settled.problems, *problems]
        _carry_over(context, launched, before, planned.offer, decision)
        _prepare_claude(planned, launched, failure)
        additions.end(paths)
    problems += _go_on(context, launched)
    if failure:
        lines = "\n".join(problems) or None
        raise BottleError(f"{slug} was not rebuilt, and goes on as it was before: {failure}", lines)
    return Rebuilt(planned.new, tuple(problems))


def message(new: Additions, failure: str) -> str:
    """What claude is told, so that the conversation goes on by itself."""
    what = new.describe() if new else "what was approved"
    if failure:
        return (
            f"The environment could not be rebuilt with {what}: {failure}."
            " It was stopped and started again as it was before, so background processes are gone."
            " Go on without that."
        )
    return (
        f"The environment was rebuilt with {what}. Your files are as you left them; background"
        " processes are gone. Go on with what you were doing."
    )


def _bring_back(
    context: Context, planned: Planned, error: BottleError | OSError, progress: Progress
) -> tuple[Launched, list[str]]:
    """The bottle as it was. Raises BottleError."""
    slug = planned.metadata.slug
    try:
        offer = resuming.offer(context, planned.metadata, planned.before)
        return resuming.again(context, offer, progress, planned.ask)
    except (BottleError, OSError) as second:
        raise BottleError(
            f"{slug} was not rebuilt: {said(error)}; and it did not come back: {said(second)}",
            f"its state is preserved: claude-bottle resume {slug}",
        ) from error


def _checked(packages: Sequence[str], dockerfile: str) -> Additions:
    wanted = Additions(tuple(packages), dockerfile.strip("\n"))
    if not wanted:
        raise UsageError("there is nothing to add")
    try:
        return check_additions(wanted)
    except ValueError as error:
        raise UsageError(f"this cannot be added: {error}", "modify or reject the proposal") from error


def _other_changes(offer: resuming.Offer, new: Additions, granted: Sequence[Route]) -> list[picture.Change]:
    """What was not approved, neither now nor, for good, while the bottle ran."""
    own = {("may reach", describe_route(route)) for route in granted}
    own |= {("package", name) for name in new.packages} | {("image line", line) for line in new.lines}
    return [change for change in offer.changes if (change.label, change.text) not in own]


class _Remembered:
    """Asks the operator each question once, while nothing has been stopped yet."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._answers: dict[str, str] = {}

    def __call__(self, question: str) -> str:
        if question not in self._answers:
            self._answers[question] = self._ask(question)
        return self._answers[question]


def _await_told(bottle: Bottle, decision: str) -> None:
    """Until the agent has its answer, for a while: it may have ended, or not listen any more."""
    deadline = time.monotonic() + _TOLD_SECONDS
    while time.monotonic() < deadline:
        waiting = [
            item
            for item in deciding.look(bottle).queue.proposals
            if item.answer is not None and item.answer.decision == decision and not item.told
        ]
        if not waiting:
            return
        time.sleep(_LOOK_SECONDS)


def _await_rest(context: Context, metadata: Metadata) -> None:
    """Until claude says that it has written the answer down, for a moment. What it says is only a hint."""
    from claude_bottle.operations.status import WORKING, judge

    backend = load_backend(metadata.backend)
    deadline = time.monotonic() + _REST_SECONDS
    while time.monotonic() < deadline:
        looks = dict(backend.look([metadata.slug], context.home.state))
        if judge(looks.get(metadata.slug), (), ()).status != WORKING:
            return
        time.sleep(_LOOK_SECONDS)


def carried(before: LivePolicy, now: LivePolicy, agreed: frozenset[str]) -> LivePolicy:
    """What the bottle may reach after a rebuild: what its operator had left it with, and nothing else.

    Pure. `now` is what the manifest gives, `agreed` the rules in it, in the preflight's words, that are new
    and were agreed to. A rule that was taken away while the bottle ran stays away; a grant goes on within
    its bounds.
    """
    known = {item.route._replace(origin="") for item in before.routes if not item.grant}
    kept = [
        item
        for item in now.routes
        if item.route._replace(origin="") in known or describe_route(item.route) in agreed
    ]
    return now._replace(routes=(*kept, *(item for item in before.routes if item.grant)))


def _carry_over(
    context: Context, launched: Launched, before: LivePolicy, offer: resuming.Offer, decision: str
) -> None:
    """A bottle that would have more than its operator left it with is ended. Raises BottleError."""
    slug = launched.metadata.slug
    agreed = frozenset(change.text for change in offer.changes if change.label == "may reach")

    def plan(seen: deciding.Seen, word: str) -> deciding.Change:
        after = carried(before, seen.live, agreed)
        told = {"carried over": [item.grant for item in after.routes if item.grant], "because of": decision}
        return deciding.Change(after, told)

    try:
        seen = deciding.look(launched.bottle)
        after = carried(before, seen.live, agreed)
        if after != seen.live:
            deciding.carry_out(context, slug, deciding.EDIT, plan)
    except (BottleError, OSError) as error:
        why = f"what was decided while {slug} ran could not be carried over: {said(error)}"
        take_down(context, launched.metadata, launched.bottle, why)
        raise BottleError(why, f"without it: claude-bottle resume {slug}") from error


def _prepare_claude(planned: Planned, launched: Launched, failure: str) -> None:
    """How claude is run next in its terminal: it goes on where it was, and hears what has changed."""
    from claude_bottle.operations.session import claude

    if not claude.was_asked_for(launched.paths):
        return  # `run` has it, which knows by the state what has changed
    always = tuple(planned.offer.prepared.claude_arguments)
    begun = claude.recall(launched.paths).begun
    going_on = launched.claude_arguments[len(always) :]
    if begun and going_on:
        words = message(planned.new, failure)
        claude.remember(launched.paths, claude.Asked(always, (*going_on, words), notify=launched.notify))


def _go_on(context: Context, launched: Launched) -> list[str]:
    """Claude in its terminal again, where it was in one."""
    from claude_bottle.operations.session import claude
    from claude_bottle.operations.session.begin import start_unseen

    try:
        if claude.was_asked_for(launched.paths) and "--continue" in claude.recall(launched.paths).first:
            start_unseen(context, launched.metadata)
    except (BottleError, OSError) as error:
        slug = launched.metadata.slug
        return [f"claude does not run in {slug}: {said(error)}; try claude-bottle attach {slug}"]
    return []
