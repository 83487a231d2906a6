"""What agents ask for, and your answers.

list: a row for each that waits, over all running bottles, the oldest first: its name TAB how long ago TAB
whose TAB what TAB why, in the agent's words; --all has the answered ones too. show ID: what it would add,
what else that would open, what the agent tried, and what it is doing. approve ID: as it was asked, by
default until the bottle ends. modify ID: your editor on what was asked for; what you leave there is granted
when you have seen it and said yes. reject ID: no, and --reason is what the agent is told.

An ID may be cut to its first digits, four at least. The first answer stands; whoever comes second is told.
Each answer is in the audit log before it takes effect.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from claude_bottle.cli.screen import Screen
from claude_bottle.errors import UsageError

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context
    from claude_bottle.operations.deciding import Done
    from claude_bottle.operations.proposals import Given, Terms, Waiting

_ACTIONS = ("list", "show", "approve", "modify", "reject")
_BOUNDS = ("seconds", "uses", "once", "session", "always")
_TAKES = {
    **dict.fromkeys(_BOUNDS, ("approve", "modify")),
    "yes": ("approve", "modify"),
    "reason": ("reject",),
    "all": ("list",),
    "json": ("list", "show"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", default="list", choices=_ACTIONS)
    parser.add_argument("id", nargs="?", metavar="ID")
    parser.add_argument("--for", dest="seconds", metavar="TIME", help="for so long, such as 30m, 2h or 1d")
    parser.add_argument("--uses", metavar="N", help="for so many requests, or tunnels where not inspected")
    parser.add_argument("--once", action="store_true", help="for one")
    parser.add_argument("--session", action="store_true", help="until the bottle ends (the default)")
    parser.add_argument(
        "--always", action="store_true", help="for good: written into the manifest, once you have seen how"
    )
    parser.add_argument("--yes", action="store_true", help="without being asked")
    parser.add_argument("--reason", metavar="TEXT", help="reject: why; the agent is told")
    parser.add_argument("--all", action="store_true", help="list: answered ones too")
    parser.add_argument("--json", action="store_true", help="list, show: one JSON object")


def run(options: argparse.Namespace, screen: Screen) -> int:
    _refuse_options(options)
    if options.action == "list":
        return _list(options, screen)
    if options.id is None:
        raise UsageError(f"{options.action} needs an ID", "claude-bottle proposals list")
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.proposals import find

    context = system_context()
    waiting = find(context, options.id)
    if options.action == "show":
        return _show(context, waiting, options, screen)
    if options.action == "reject":
        return _reject(context, waiting, options, screen)
    terms = _terms(options)
    given = _modified(context, waiting, options, screen) if options.action == "modify" else None
    return _approve(context, waiting, terms, given, options, screen)


def _refuse_options(options: argparse.Namespace) -> None:
    from claude_bottle.cli.policy import refuse_options

    refuse_options(options, _TAKES)
    if options.action == "list" and options.id is not None:
        raise UsageError("list takes no ID", f"claude-bottle proposals show {options.id}")
    given = [name for name in _BOUNDS if getattr(options, name)]
    if len(given) > 1 and set(given) != {"seconds", "uses"} and set(given) != {"seconds", "once"}:
        raise UsageError(f"{' and '.join(map(_flag, given))} do not go together")


def _flag(name: str) -> str:
    return "--for" if name == "seconds" else f"--{name}"


def _terms(options: argparse.Namespace) -> Terms:
    from claude_bottle.cli.policy import bounds_of
    from claude_bottle.operations.proposals import Terms

    seconds, uses = bounds_of(options)
    return Terms(seconds, 1 if options.once else uses)


def _list(options: argparse.Namespace, screen: Screen) -> int:
    import time

    from claude_bottle.operations.asked import asks
    from claude_bottle.operations.briefing import item_json
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.proposals import listing
    from claude_bottle.policy.durations import spoken

    found = listing(system_context(), answered=options.all)
    for warning in found.warnings:
        screen.say(warning)
    if options.json:
        screen.put_json(
            {"proposals": [item_json(item) for item in found.items], "warnings": list(found.warnings)}
        )
        return 0
    now = time.time()
    for item in found.items:
        state = (item.proposal.state,) if options.all else ()
        age = spoken(now - item.proposal.at)
        what = asks(item.proposal.asked)[:100]
        screen.put_row(
            (item.proposal.id, age, *state, item.slug, what, item.proposal.asked.justification[:100])
        )
    return 0


def _show(context: Context, waiting: Waiting, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.briefing import as_json, as_lines, brief

    found = brief(context, waiting)
    if options.json:
        screen.put_json(as_json(found))
        return 0
    for problem in found.problems:
        screen.say(problem)
    for label, text in as_lines(found):
        screen.put(f"{label:<12} {text}".rstrip())
    return 0


def _reject(context: Context, waiting: Waiting, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.proposals import reject

    done = reject(context, waiting, options.reason or "")
    screen.say(f"{waiting.proposal.id} of {waiting.slug} is rejected: decision {done.decision}")
    return 0


def _approve(
    context: Context,
    waiting: Waiting,
    terms: Terms,
    given: Given | None,
    options: argparse.Namespace,
    screen: Screen,
) -> int:
    from claude_bottle.operations.proposals import approve
    from claude_bottle.policy.proposals import CAPABILITY

    if waiting.proposal.asked.kind == CAPABILITY:
        if any(getattr(options, name) for name in _BOUNDS):
            raise UsageError("what is added to a bottle's file system has no bounds", "leave them out")
        return _extend(context, waiting, given, options, screen)
    finish = None
    if options.always:
        from claude_bottle.operations.always import prepare

        written = prepare(context, waiting, given)
        for line in written.difference:
            screen.say(line)
        if not screen.confirm(f"write this into {written.finish.path}?", options.yes):
            raise UsageError("nothing was changed")
        finish = written.finish
    done = approve(context, waiting, terms, given, finish=finish)
    _tell(waiting, terms, given, done, screen)
    if finish is not None:
        screen.say(f"{finish.path} is written")
    return 0


def _tell(waiting: Waiting, terms: Terms, given: Given | None, done: Done, screen: Screen) -> None:
    from claude_bottle.operations.edits import described
    from claude_bottle.policy.edits import change

    word = "approved" if given is None else "modified and approved"
    screen.say(f"{waiting.proposal.id} of {waiting.slug} is {word}: decision {done.decision}")
    new = change(done.before, done.after).new
    for item in new:
        screen.say(f"+ {described(item, done.now)}")
    if not new:
        screen.say("it was allowed already")


def _extend(
    context: Context, waiting: Waiting, given: Given | None, options: argparse.Namespace, screen: Screen
) -> int:
    """The image first, while nothing has changed; then the answer, so that the agent has it; then the rest.

    Raises BottleError; then the old bottle runs, or the message says that it does not.
    """
    from collections.abc import Sequence

    from claude_bottle.errors import BottleError
    from claude_bottle.operations import rebuild
    from claude_bottle.operations.picture import Change
    from claude_bottle.operations.proposals import Terms, approve, asked_for, pending
    from claude_bottle.policy.proposals import Queue

    slug, item = waiting.slug, waiting.proposal
    pending(Queue((item,)), item.id)
    wanted = given or asked_for(item)

    def agree(changes: Sequence[Change]) -> bool:
        for change in changes:
            screen.pair("changed", f"{change.how:<8}{change.label}: {change.text}")
        return screen.confirm(f"the manifest has changed since {slug} began: with that too?", options.yes)

    planned = rebuild.build(context, slug, wanted.packages, wanted.dockerfile, screen.step, screen.ask, agree)
    done = approve(context, waiting, Terms(), given)
    word = "approved" if given is None else "modified and approved"
    screen.say(f"{item.id} of {slug} is {word}: decision {done.decision}")
    try:
        rebuilt = rebuild.rebuild(context, planned, done.decision, screen.step)
    except BottleError as error:
        error.message = f"{done.decision} was {word}, but: {error.message}"
        raise
    for problem in rebuilt.problems:
        screen.say(problem)
    screen.say(f"{slug} has {rebuilt.additions.describe()}, and its agent goes on")
    return 1 if rebuilt.problems else 0


def _modified(context: Context, waiting: Waiting, options: argparse.Namespace, screen: Screen) -> Given:
    """What the operator has made of it in an editor, seen and agreed to."""
    from claude_bottle.cli.editor import draft, edit_until
    from claude_bottle.errors import BottleError
    from claude_bottle.operations.briefing import as_lines, brief
    from claude_bottle.operations.modifying import read, text_of
    from claude_bottle.operations.proposals import asked_for, pending
    from claude_bottle.policy.proposals import Queue

    screen.expect_answer(options.yes)
    item = waiting.proposal
    pending(Queue((item,)), item.id)
    with draft(item.id, text_of(waiting)) as made:
        given = edit_until(made, context.environment, lambda text: read(text, made.path, item), screen)
        if given == asked_for(item):
            raise UsageError("nothing was modified", f"claude-bottle proposals approve {item.id}")
        found = brief(context, waiting, given)
        for label, line in as_lines(found):
            if label not in ("doing", "tried") and line:
                screen.say(f"{label:<12} {line}")
        if not screen.confirm(f"grant this to {waiting.slug}?", options.yes):
            raise BottleError("nothing was changed")
    return given
