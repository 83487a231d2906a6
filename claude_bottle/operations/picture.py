"""What a bottle may do, in the words of the preflight, kept beside its metadata when it was proved: so that a
later look at the manifest can say what has changed. Pure but for `save` and `load`.

Invariant: no secret is in it. Of a variable there is its name and never its value, of a secret where it is
found, of a prompt a digest; what cannot be shown is in one digest for all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.manifest.model import Agent, Bottle, digest_of
from claude_bottle.operations.preflight import describe_proposals, describe_route
from claude_bottle.policy.model import Route
from claude_bottle.state.paths import BottlePaths
from claude_bottle.state.store import write_atomically

if TYPE_CHECKING:
    from claude_bottle.operations.prepare import Prepared

_SCHEMA, _MAX_BYTES = 1, 8 << 20
ADDED, REMOVED = "added", "removed"
Picture = tuple[tuple[str, str], ...]  # (what kind of thing, which), each of them once


class Change(NamedTuple):
    """`how` is added, removed, or empty for what can only be said as a whole."""

    how: str
    label: str
    text: str


def draw(agent: Agent, bottle: Bottle, routes: Iterable[Route], added: Iterable[str] = ()) -> Picture:
    """`routes` are all that there are, Claude's own included; `added` are lines of a Dockerfile."""
    env = {"literal": "", "host": " from ${{{0}}} of the host", "ask": " asked"}
    limits = bottle.limits._asdict().items()
    found = [
        ("bottle", bottle.name),
        *(("may reach", describe_route(route)) for route in routes),
        *(("detector", f"{name} for {route.host}") for route in routes for name in route.detectors),
        *(("variable", name + env[value.kind].format(value.value)) for name, value in bottle.env.items()),
        *(("ssh", f"{entry.user or ''}@{entry.hostname or entry.host}:{entry.port}") for entry in bottle.ssh),
        *(
            ("git", f"{name} {repo.url} {' '.join(repo.refs) or 'no ref may be pushed'}")
            for name, repo in bottle.git.repos.items()
        ),
        ("proposals", describe_proposals(bottle.supervise)),
        *(("limit", f"{name.replace('_', ' ')} {value}") for name, value in limits if value is not None),
        *((key, value) for key in ("image", "dockerfile", "runtime") if (value := getattr(bottle, key))),
        *(("package", name) for name in bottle.packages),
        *(("image line", line) for line in added),
        *(("skill", name) for name in agent.skills),
        *([("model", agent.model)] if agent.model else []),
        *([("prompt", digest_of(agent.prompt)[:12])] if agent.prompt else []),
        ("not shown", digest_of([_unshown(bottle), [route.auth for route in routes]])[:12]),
    ]
    return tuple(sorted(set(found)))


def _unshown(bottle: Bottle) -> object:
    told = [bottle.supervise.notify] if bottle.supervise.notify else []
    return [
        {name: list(value) for name, value in bottle.env.items()},
        bottle.ssh,
        dict(bottle.git.repos),
        *told,
    ]


def difference(before: Picture | None, now: Picture, *, same_digest: bool) -> tuple[Change, ...]:
    """What the operator should know before the bottle starts again. Empty where nothing has changed."""
    if before is None:
        return () if same_digest else (Change("", "manifest", "it has changed; what it was is not known"),)
    hidden = ("not shown", "prompt")
    gone, new = (sorted(set(a) - set(b)) for a, b in ((before, now), (now, before)))
    changes = [Change(ADDED, *item) for item in new if item[0] not in hidden]
    changes += [Change(REMOVED, *item) for item in gone if item[0] not in hidden]
    labels = {label for label, _ in (*gone, *new)}
    if "skill" in labels:
        changes.append(Change("", "skills", "those of the first start stay; a new start takes the new ones"))
    if "prompt" in labels:
        changes.append(Change("", "prompt", "it has changed"))
    if "not shown" in labels and not {item.label for item in changes} & {"variable", "may reach"}:
        changes.append(Change("", "values", "of variables or secrets have changed"))
    if not changes and not same_digest:
        changes.append(Change("", "manifest", "it has changed, but not what this bottle may do"))
    return tuple(changes)


def of(prepared: Prepared) -> Picture:
    routes = prepared.plan.request.policy.routes
    return draw(prepared.agent, prepared.bottle, routes, prepared.additions.lines)


def render(picture: Picture) -> str:
    return json.dumps({"schema": _SCHEMA, "picture": [list(item) for item in picture]}, indent=1) + "\n"


def parse(text: str) -> Picture | None:
    """None for what is no picture of this version's."""
    try:
        obj = json.loads(text)
        if obj["schema"] != _SCHEMA:
            return None
        pairs = [(label, what) for label, what in obj["picture"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(isinstance(part, str) for pair in pairs for part in pair):
        return None
    return tuple(sorted(set(pairs)))


def save(paths: BottlePaths, picture: Picture) -> None:
    """Raises OSError."""
    write_atomically(paths.picture, render(picture))


def load(paths: BottlePaths) -> Picture | None:
    """None where there is none that can be read: then nobody knows what it was."""
    try:
        with open(paths.picture, encoding="utf-8", errors="replace") as file:
            return parse(file.read(_MAX_BYTES))
    except OSError:
        return None
