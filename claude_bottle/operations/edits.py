"""The operator's view of a running bottle's policy, and edits of it.

Invariant: an edit goes the way of every decision (`deciding`): audited before it takes effect, whole or not
at all. One that was made from what an operator has seen applies to exactly that version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from claude_bottle.errors import BottleError, NotFoundError, UsageError
from claude_bottle.manifest.problems import nearest
from claude_bottle.manifest.rules_text import ALLOWLIST, is_writable, read_routes, routes_text
from claude_bottle.operations import deciding
from claude_bottle.operations.claude import OWN
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Seen
from claude_bottle.operations.preflight import describe_route
from claude_bottle.policy import edits
from claude_bottle.policy.durations import spoken
from claude_bottle.policy.edits import Change, EditError
from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute, items_in_force
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.routes import decide_connect, routes_for
from claude_bottle.policy.snapshot import route_to_json
from claude_bottle.text import plural

NO_BOUND = "no bound"
Plan = Callable[
    [Seen, str], LivePolicy
]  # what is there and the decision's word; raises EditError, BottleError


class Edited(NamedTuple):
    """An edit that took effect."""

    decision: str
    change: Change
    after: LivePolicy
    closed: int  # connections that are no longer allowed
    now: float  # the bundle's clock


class Which(NamedTuple):
    """By what an operator names rules: all of it must be in a rule."""

    host: str
    ports: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    decision: str = ""

    def names(self, item: LiveRoute) -> bool:
        route = item.route
        return (
            route.host == self.host
            and {*self.ports} <= {*route.ports}
            and {*self.methods} <= {*route.methods}
            and {*self.paths} <= {*route.paths}
            and self.decision in ("", item.grant)
        )


class _NothingError(BottleError):
    """The edit changes nothing."""


def seen_of(context: Context, slug: str) -> Seen:
    """What is in force. Raises NotFoundError, UsageError for a bottle that has ended, BottleError."""
    try:
        bottle, _ = deciding.running(context, slug)
    except NotFoundError:
        if context.home.archive(slug).is_dir():
            raise UsageError(
                f"{slug} has ended: only what runs has routes in force", f"claude-bottle logs {slug}"
            ) from None
        raise
    return deciding.look(bottle)


def items_of(seen: Seen, key: str) -> tuple[LiveRoute, ...]:
    """What is in force; for the allowlist what its short form can say."""
    items = items_in_force(seen.live, seen.now)
    return tuple(item for item in items if edits.is_bare(item.route)) if key == ALLOWLIST else items


def apply(context: Context, slug: str, what: str, plan: Plan, expect: int | None = None) -> Edited | None:
    """None where nothing changes. `what` is for the audit log; `expect` is the version that was looked at.

    Raises BottleError; then nothing has changed, or the error says that it is not known.
    """

    now = 0.0

    def planned(seen: Seen, word: str) -> deciding.Change:
        nonlocal now
        now = seen.now
        if expect is not None and seen.live.version != expect:
            raise BottleError(
                f"{slug} was changed by somebody else meanwhile", "look at it, and edit it again"
            )
        after = _planned(seen, plan, word)
        if after is seen.live:
            raise _NothingError("nothing changes")
        return deciding.Change(after, {"what": what, **_told(edits.change(seen.live, after), seen.now)})

    try:
        done = deciding.carry_out(context, slug, deciding.EDIT, planned)
    except _NothingError:
        return None
    return Edited(done.decision, edits.change(done.before, done.after), done.after, done.closed, now)


def preview(seen: Seen, plan: Plan) -> Change:
    """What it would change. Raises BottleError."""
    return edits.change(seen.live, _planned(seen, plan, ""))


def _planned(seen: Seen, plan: Plan, word: str) -> LivePolicy:
    try:
        return plan(seen, word)
    except EditError as error:
        raise UsageError(str(error)) from error


def text_of(seen: Seen, key: str, slug: str) -> tuple[str, tuple[LiveRoute, ...]]:
    """What an editor is given, and the rules that are in it."""
    items = items_of(seen, key)
    kept = tuple(item for item in items if item.route.origin == OWN or not is_writable(item.route))
    written = tuple(item for item in items if item not in kept)
    head = [
        f"The {key} of {slug}. Nothing happens before you have seen the difference and said yes.",
        "What is taken out ends at once, open connections too. The manifest stays as it is: what you",
        "write here holds until the bottle ends.",
        *(f"Beside these, and not to be edited: {describe_route(item.route)}" for item in kept),
    ]
    noted = [(item.route, f"{provenance(item)}; {left(item.bounds, seen.now)}") for item in written]
    return routes_text(key, noted, head), written


def rewriting(text: str, file: str, key: str, written: Iterable[LiveRoute]) -> Plan:
    """The plan to put what was written in place of what an editor was given. Raises ManifestError."""
    shown = tuple(written)
    routes = tuple(route._replace(origin=f"{key} edit") for route in read_routes(text, file, key))

    def plan(seen: Seen, word: str) -> LivePolicy:
        after = edits.rewritten(seen.live, shown, routes, word)
        if key == ALLOWLIST:
            edits.refuse_widening(after, (item.route for item in edits.change(seen.live, after).new))
        return after

    return plan


def adding(routes: Iterable[Route], key: str, seconds: float | None, uses: int | None) -> Plan:
    """The plan to allow more, for so long or so often."""
    named = tuple(route._replace(origin=f"{key} add") for route in routes)

    def plan(seen: Seen, word: str) -> LivePolicy:
        if key == ALLOWLIST:
            edits.refuse_widening(seen.live, named)
        bounds = Bounds(None if seconds is None else seen.now + seconds, uses)
        return edits.added(seen.live, named, bounds, word)

    return plan


def removing(which: Iterable[Which], key: str, slug: str, *, every: bool) -> Plan:
    """The plan to take rules away; each is named so that it is one, or `every` one is meant."""
    wanted = tuple(which)

    def plan(seen: Seen, word: str) -> LivePolicy:
        gone: list[LiveRoute] = []
        for each in wanted:
            gone += [item for item in _named(seen, each, key, slug, every=every) if item not in gone]
        return edits.removed(seen.live, gone)

    return plan


def _named(seen: Seen, which: Which, key: str, slug: str, *, every: bool) -> list[LiveRoute]:
    items = [item for item in seen.live.routes if which.names(item)]
    found = [item for item in items if key != ALLOWLIST or edits.is_bare(item.route)]
    if not found:
        raise NotFoundError(
            f"{slug} has no such rule for {which.host}", _instead(seen.live, which.host, items, slug)
        )
    if len(found) > 1 and not every:
        rules = "\n".join(f"{describe_route(item.route)}  ({provenance(item)})" for item in found)
        raise UsageError(
            f"{which.host} has {len(found)} rules:\n{rules}",
            "name one by --port, --method, --path or --decision, or take --all",
        )
    return found


def _instead(policy: LivePolicy, host: str, others: list[LiveRoute], slug: str) -> str:
    if others:
        return f"it has rules of another form: claude-bottle routes show {slug}"
    covering = [route.host for route in routes_for(_bare(policy), host) if route.host != host]
    if covering:
        return f"it is allowed by {covering[0]}"
    return nearest(host, {item.route.host for item in policy.routes}) or f"claude-bottle routes show {slug}"


def still_allowed(policy: LivePolicy, host: str) -> str:
    """The rule that allows connections to a host after a removal; empty where none does."""
    ports = {port for item in policy.routes for port in item.route.ports}
    found = (decide_connect(_bare(policy), host, port).route for port in sorted(ports))
    return next((route.host for route in found if route is not None), "")


def provenance(item: LiveRoute) -> str:
    """Where a rule comes from."""
    if not item.grant:
        return item.route.origin or "not known"
    return f"decision {item.grant}" + (f" ({item.route.origin})" if item.route.origin else "")


def left(bounds: Bounds, now: float) -> str:
    """For how long, and how often."""
    words = [f"{spoken(bounds.until - now)} left"] if bounds.until is not None else []
    words += [f"{plural(bounds.uses, 'use')} left"] if bounds.uses is not None else []
    return ", ".join(words) or NO_BOUND


def described(item: LiveRoute, now: float) -> str:
    return f"{describe_route(item.route)}  ({provenance(item)}; {left(item.bounds, now)})"


def as_json(item: LiveRoute) -> dict[str, Any]:
    """For programs. Of a secret there is only where it is found."""
    auth = item.route.auth
    return {
        **route_to_json(item.route),
        "auth": auth and {"scheme": auth.scheme, "secret": f"{auth.secret.kind}:{auth.secret.argument[0]}"},
        "upstream": str(item.route.upstream) if item.route.upstream is not None else None,
        "origin": item.route.origin or None,
        "decision": item.grant or None,
        "until": item.bounds.until,
        "uses": item.bounds.uses,
    }


def _told(change: Change, now: float) -> Mapping[str, object]:
    return {
        "gone": [described(item, now) for item in change.gone],
        "new": [described(item, now) for item in change.new],
    }


def _bare(policy: LivePolicy) -> Policy:
    return Policy(tuple(item.route for item in policy.routes), policy.version)
