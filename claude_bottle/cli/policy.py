"""What `routes` and `allowlist` share: their options, and what they do with them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from claude_bottle.cli.screen import Screen
from claude_bottle.errors import BottleError, UsageError

if TYPE_CHECKING:
    from claude_bottle.operations.edits import Edited, Plan
    from claude_bottle.policy.edits import Change

T = TypeVar("T")
ACTIONS = ("show", "add", "remove", "edit")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of both."""
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("slug")
    parser.add_argument("--for", dest="seconds", metavar="TIME", help="add: for so long, such as 30m or 2h")
    parser.add_argument(
        "--uses", metavar="N", help="add: for so many requests, or tunnels where not inspected"
    )
    parser.add_argument("--all", action="store_true", help="remove: every rule that is meant, not only one")
    parser.add_argument("--yes", action="store_true", help="edit: without being asked")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def refuse_options(options: argparse.Namespace, takes: Mapping[str, tuple[str, ...]]) -> None:
    """An option that another action takes would have no effect here. Raises UsageError."""
    for name, actions in takes.items():
        if getattr(options, name, None) and options.action not in actions:
            flag = {"seconds": "--for", "hosts": "HOST", "host": "HOST"}.get(
                name, f"--{name.replace('_', '-')}"
            )
            raise UsageError(f"{options.action} takes no {flag}")


def bounds_of(options: argparse.Namespace) -> tuple[float | None, int | None]:
    """For how many seconds and how often. Raises UsageError."""
    from claude_bottle.policy.durations import parse_duration, parse_uses

    seconds = None if options.seconds is None else taken(parse_duration, options.seconds, "--for")
    return seconds, None if options.uses is None else taken(parse_uses, options.uses, "--uses")


def taken(read: Callable[[str], T], text: str, flag: str) -> T:
    """Raises UsageError for what `read` does not take."""
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def show(options: argparse.Namespace, screen: Screen, key: str) -> int:
    """What is in force: a row each, what it allows, for how long, and where it comes from."""
    from claude_bottle.operations import edits
    from claude_bottle.operations.context import reading_context
    from claude_bottle.operations.preflight import describe_route
    from claude_bottle.text import shown

    seen = edits.seen_of(reading_context(), options.slug)
    items = edits.items_of(seen, key)
    if options.json:
        rules = [edits.as_json(item) for item in items]
        screen.put_json({"slug": options.slug, "version": seen.live.version, "now": seen.now, key: rules})
        return 0
    for item in items:
        fields = (describe_route(item.route), edits.left(item.bounds, seen.now), edits.provenance(item))
        screen.put("\t".join(shown(field, 2000) for field in fields))
    return 0


def carry_out(options: argparse.Namespace, screen: Screen, key: str, plan: Plan) -> int:
    """An edit that needs no question: the command line has said all of it."""
    from claude_bottle.operations import edits
    from claude_bottle.operations.context import system_context

    done = edits.apply(system_context(), options.slug, f"{key} {options.action}", plan)
    if done is not None:
        show_change(done.change, screen, done.now)
    return _report(done, options, screen)


def edit(options: argparse.Namespace, screen: Screen, key: str) -> int:
    """The operator's editor on what is in force, the difference, a question, the change."""
    from claude_bottle.cli.editor import draft, edit_until
    from claude_bottle.operations import edits
    from claude_bottle.operations.context import system_context

    screen.expect_answer(options.yes)
    context = system_context()
    seen = edits.seen_of(context, options.slug)
    text, written = edits.text_of(seen, key, options.slug)
    with draft(f"{key}-{options.slug}", text) as made:

        def read(changed: str) -> tuple[Plan, Change] | None:
            if changed == text:
                return None
            plan = edits.rewriting(changed, made.path, key, written)
            return plan, edits.preview(seen, plan)

        found = edit_until(made, context.environment, read, screen)
        if found is None:
            screen.say("nothing was changed")
            return 0
        plan, difference = found
        show_change(difference, screen, seen.now)
        if not difference.any:
            screen.say("nothing changes")
            return 0
        if not screen.confirm(f"change {options.slug}?", yes=options.yes):
            raise BottleError("nothing was changed")
        done = edits.apply(context, options.slug, f"{key} edit", plan, expect=seen.live.version)
    return _report(done, options, screen)


def show_change(change: Change, screen: Screen, now: float) -> None:
    from claude_bottle.operations.edits import described

    for sign, items in (("-", change.gone), ("+", change.new)):
        for item in items:
            screen.say(f"{sign} {described(item, now)}")


def _report(done: Edited | None, options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.operations.edits import as_json, still_allowed
    from claude_bottle.text import plural

    if done is None:
        screen.say("nothing changes: it is so already")
    else:
        closed = f", {plural(done.closed, 'connection')} closed" if done.closed else ""
        screen.say(f"{options.slug} is changed, until it ends: decision {done.decision}{closed}")
        for host in dict.fromkeys(item.route.host for item in done.change.gone):
            if rule := still_allowed(done.after, host):
                screen.say(f"{host} is still allowed by {rule}")
    if options.json:
        gone, new = ((), ()) if done is None else done.change
        screen.put_json(
            {
                "slug": options.slug,
                "decision": done.decision if done is not None else None,
                "version": done.after.version if done is not None else None,
                "closed": done.closed if done is not None else 0,
                "gone": [as_json(item) for item in gone],
                "new": [as_json(item) for item in new],
            }
        )
    return 0
