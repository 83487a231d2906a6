"""All that an operator must know to answer one proposal, on one screen.

Invariant: it holds for the bottle as it is when it is asked. What an agent wrote is marked as such and
bounded; what could not be had in time is told, and never taken for "nothing".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.operations import deciding, decisions, edits, logs, noting, proposals, rebuild, transcript
from claude_bottle.operations.asked import as_json as proposal_as_json
from claude_bottle.operations.asked import asks
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Seen
from claude_bottle.operations.preflight import describe_route
from claude_bottle.operations.proposals import Given, Terms, Waiting
from claude_bottle.policy.additions import Additions, caveats
from claude_bottle.policy.consequences import Consequence, consequences
from claude_bottle.policy.durations import spoken
from claude_bottle.policy.edits import change
from claude_bottle.policy.hosts import matches
from claude_bottle.policy.live import LiveRoute, in_force, items_in_force
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import CAPABILITY
from claude_bottle.text import shown, shown_lines

_TRIED = 8
_DOING = 6  # entries of the transcript
_DOING_TEXT = 240
_JUSTIFICATION = (1200, 12)  # characters, lines
_MET = 2000

Line = tuple[str, str]


class Briefing(NamedTuple):
    """`refusal` says why it cannot be approved as it is; `tried` are lines of the decision log."""

    waiting: Waiting
    now: float
    before: tuple[LiveRoute, ...]  # what is allowed on these hosts now
    new: tuple[LiveRoute, ...]
    consequences: tuple[Consequence, ...]
    refusal: str
    tried: tuple[Mapping[str, Any], ...]
    doing: tuple[transcript.Entry, ...]
    problems: tuple[str, ...]


def brief(context: Context, waiting: Waiting, given: Given | None = None) -> Briefing:
    """Of a proposal, or of what an operator would give instead. Raises BottleError."""
    bottle, metadata = deciding.running(context, waiting.slug)
    seen = deciding.look(bottle)
    current = seen.queue.find(waiting.proposal.id)
    waiting = waiting if current is None else waiting._replace(proposal=current)
    wanted = given or proposals.asked_for(waiting.proposal)
    route = wanted.route and proposals.by_its_way(seen, wanted.route)
    added = Additions(wanted.packages, wanted.dockerfile)
    unnoted = noting.unnoted(context.home, waiting.slug, waiting.agent, [waiting.proposal])
    problems = [unnoted] if unnoted else []
    events = _events(context, waiting.slug, problems)
    tried, met = _history(events, route)
    new, refusal = _new(seen, wanted.route, waiting, own=given is not None)
    if waiting.proposal.asked.kind == CAPABILITY:
        refusal = rebuild.fault(metadata, added)
    return Briefing(
        waiting,
        seen.now,
        _of_host(seen, route),
        new,
        _of_image(added) if route is None else consequences(in_force(seen.live, seen.now), route, met),
        refusal,
        tried,
        _doing(context, waiting.slug, problems),
        tuple(problems),
    )


def _new(
    seen: Seen, route: Route | None, waiting: Waiting, *, own: bool
) -> tuple[tuple[LiveRoute, ...], str]:
    """What would be added, and why it cannot be."""
    if waiting.proposal.asked.kind == CAPABILITY:
        return (), ""
    try:
        checked = proposals.by_its_way(seen, proposals.allowable(route, own=own))
        after = proposals.with_route(seen, checked, Terms().bounds(seen.now), "", waiting.proposal.id)
    except BottleError as error:
        return (), error.message
    return change(seen.live, after).new, ""


def _of_image(added: Additions) -> tuple[Consequence, ...]:
    return tuple(Consequence("image", text, grave=bool(added.dockerfile)) for text in caveats(added))


def _of_host(seen: Seen, route: Route | None) -> tuple[LiveRoute, ...]:
    if route is None:
        return ()
    return tuple(
        item
        for item in items_in_force(seen.live, seen.now)
        if matches(item.route.host, route.host) or matches(route.host, item.route.host)
    )


def _events(context: Context, slug: str, problems: list[str]) -> Iterator[dict[str, Any]]:
    try:
        path: Path = logs.log_path(context, slug, "decisions")
        yield from decisions.read(path)
    except (BottleError, OSError) as error:
        problems.append(f"what it tried is not known: {_said(error)}")


def _history(
    events: Iterable[Mapping[str, Any]], route: Route | None
) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """The last lines about the host, and every host that was reached."""
    tried: deque[Mapping[str, Any]] = deque(maxlen=_TRIED)
    met: dict[str, None] = {}
    for event in events:
        host, verdict = event.get("host"), event.get("verdict")
        if not isinstance(host, str):
            continue
        if route is not None and verdict in ("allow", "deny") and matches(route.host, host):
            tried.append(event)
        if verdict == "allow" and len(met) < _MET:
            met[host] = None
    return tuple(tried), tuple(met)


def _doing(context: Context, slug: str, problems: list[str]) -> tuple[transcript.Entry, ...]:
    """The last that was said and done in the conversation that was begun last."""
    try:
        found, faults = logs.sessions(context, slug)
        problems += faults
        if not found:
            return ()
        return tuple(deque(transcript.entries(logs.read_lines(found[-1].path)), maxlen=_DOING))
    except (BottleError, OSError) as error:
        problems.append(f"what it was doing is not known: {_said(error)}")
        return ()


def _said(error: BottleError | OSError) -> str:
    return error.message if isinstance(error, BottleError) else str(error.strerror)


def as_lines(found: Briefing) -> list[Line]:
    """A label (empty on lines that continue) and a text, which is safe to look at."""
    item, asked = found.waiting.proposal, found.waiting.proposal.asked
    times = f", {item.times} times" if item.times > 1 else ""
    lines = [
        ("proposal", f"{item.id} of {found.waiting.slug} ({asked.kind})"),
        ("asked", f"{spoken(found.now - item.at)} ago{times}; {item.state}"),
        ("for", shown(asks(asked), 500)),
    ]
    lines += [("url", shown(asked.url, 500))] if asked.url else []
    lines += [("wish", f"for {spoken(asked.wish)}")] if asked.wish else []
    lines += _block("dockerfile", _quoted(asked.dockerfile))
    lines += _block("it says", _quoted(asked.justification))
    lines += _block("allowed now", [shown(edits.described(each, found.now), 500) for each in found.before])
    lines += _block("would add", [f"+ {shown(describe_route(each.route), 500)}" for each in found.new])
    lines += [("refused", shown(found.refusal, 500))] if found.refusal else []
    lines += _block("look", [_marked(each) for each in found.consequences])
    lines += _block("tried", [shown(decisions.describe(dict(event)), 300) for event in found.tried])
    lines += _block("doing", [_entry(each) for each in found.doing])
    return lines


def _marked(item: Consequence) -> str:
    return f"{'!!' if item.grave else '- '} {shown(item.text, 500)}"


def _entry(item: transcript.Entry) -> str:
    words = " ".join(part for part in (item.at[11:19], item.who, item.what, item.tool) if part)
    text = item.text if len(item.text) <= _DOING_TEXT else f"{item.text[:_DOING_TEXT]}…"
    return f"{shown(words, 200)}: {shown(text.replace(chr(10), ' '), 4 * _DOING_TEXT)}"


def _quoted(text: str) -> list[str]:
    """Each line with a bar in front of it, so that none can pass for one of ours."""
    if not text.strip():
        return []
    characters, lines = _JUSTIFICATION
    kept = shown_lines(text, characters, lines).split("\n")
    more = len(text) > characters or text.count("\n") >= lines
    return [f"| {line}" for line in kept] + (["| …"] if more else [])


def _block(label: str, texts: list[str]) -> list[Line]:
    return [(label if at == 0 else "", text) for at, text in enumerate(texts)]


def item_json(item: Waiting) -> dict[str, Any]:
    """A row of `proposals list --json`; all of it ASCII when it is written."""
    whose = {"slug": item.slug, "agent": item.agent, "backend": item.backend}
    return {**whose, **proposal_as_json(item.proposal)}


def as_json(found: Briefing) -> dict[str, Any]:
    return {
        "proposal": item_json(found.waiting),
        "now": found.now,
        "allowed_now": [edits.as_json(item) for item in found.before],
        "would_add": [edits.as_json(item) for item in found.new],
        "refusal": found.refusal or None,
        "consequences": [item._asdict() for item in found.consequences],
        "tried": [dict(event) for event in found.tried],
        "doing": [entry._asdict() for entry in found.doing],
        "problems": list(found.problems),
    }
