"""From plain data to a Manifest: pure, strict, and with every problem reported at once.

Invariant: either the whole manifest is valid or nothing of it is used. Nothing is coerced,
no default replaces an invalid setting, and an unknown key is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from claude_bottle.manifest import tables
from claude_bottle.manifest.fields import map_of, read_key
from claude_bottle.manifest.inherit import BrokenChainError, ancestry, build
from claude_bottle.manifest.model import Agent, Bottle, Git, Manifest
from claude_bottle.manifest.problems import (
    KeyPath,
    ManifestError,
    Position,
    Positions,
    Problem,
    Report,
    nearest,
    show,
)
from claude_bottle.manifest.values import name, names

__all__ = ["KeyPath", "ManifestError", "Position", "Positions", "Problem", "parse_manifest"]

TOP_KEYS = ("$schema", "bottles", "agents")


def parse_manifest(
    obj: object, positions: Positions | None = None, earlier: Sequence[Problem] = ()
) -> Manifest:
    """Read `{"bottles": {...}, "agents": {...}}`.

    `positions` says where each key path was written; `earlier` are problems that reading the files brought up
    already. Raises ManifestError with all of them.
    """
    report = Report(positions)
    sections = _sections(obj, report)
    bottles = _bottles(sections["bottles"], report)
    agents, combined = _agents(sections["agents"], sections["bottles"], report)
    if earlier or report.problems:
        raise ManifestError((*earlier, *report.problems))
    folded = {title: _fold(title, bottles, report) for title in bottles}
    for title, parts in combined.items():
        folded[title] = _combine(title, parts, bottles)
    return Manifest(tables.freeze(folded), tables.freeze(agents))


def _sections(obj: object, report: Report) -> dict[str, Mapping[str, object]]:
    """The two sections as written; a missing one is empty."""
    if not isinstance(obj, Mapping):
        report.add((), "a manifest is a mapping with the keys bottles and agents")
        obj = {}
    for key in obj:
        if read_key(key, (), report) and key not in TOP_KEYS:
            report.add((key,), "unknown key", nearest(key, TOP_KEYS))
    found: dict[str, Mapping[str, object]] = {"bottles": {}, "agents": {}}
    for key in found:
        section = obj.get(key, {})
        if isinstance(section, Mapping):
            found[key] = {title: raw for title, raw in section.items() if read_key(title, (key,), report)}
        else:
            report.add((key,), "expected a mapping of names")
    return found


def _bottles(section: Mapping[str, object], report: Report) -> dict[str, dict[str, Any]]:
    """Each bottle's own keys, and a report on every chain that does not hold."""
    bottles = map_of(name(), tables.bottle()).read(section, ("bottles",), report) or {}
    parents = {title: _named(raw, "extends") for title, raw in section.items()}
    circles: set[frozenset[str]] = set()
    for title in parents:
        try:
            ancestry(title, parents)
        except BrokenChainError as broken:
            at: KeyPath = ("bottles", title, "extends")
            if broken.missing:
                # Told once, by the bottle that names the missing one; its children would only repeat it.
                if broken.missing in parents[title]:
                    report.add(at, show(str(broken), 300), nearest(broken.missing, parents))
            elif frozenset(broken.chain) not in circles:
                circles.add(frozenset(broken.chain))
                report.add(at, show(str(broken), 300))
    return bottles


def _agents(
    section: Mapping[str, object],
    raw_bottles: Mapping[str, object],
    report: Report,
) -> tuple[dict[str, Agent], dict[str, tuple[str, ...]]]:
    """The agents, and the anonymous bottles that some of them ask for by listing several."""
    found: dict[str, Agent] = {}
    combined: dict[str, tuple[str, ...]] = {}
    written = map_of(name(), tables.agent()).read(section, ("agents",), report) or {}
    for title, raw in section.items():
        for wanted in _named(raw, "bottle"):
            if wanted not in raw_bottles:
                hint = nearest(wanted, raw_bottles) if raw_bottles else "no bottle is defined"
                report.add(("agents", title, "bottle"), f'there is no bottle "{show(wanted)}"', hint)
    for title, values in written.items():
        parts: tuple[str, ...] = values.pop("bottle")
        bottle = "+".join(parts)
        if len(parts) > 1:
            combined[bottle] = parts
        git: Git = values.pop("git", Git())
        origin = report.origin(("agents", title))
        display_name = values.pop("name", None)
        found[title] = Agent(
            title, bottle, git_user=git.user, display_name=display_name, origin=origin, **values
        )
    return found, combined


def _fold(title: str, bottles: Mapping[str, dict[str, Any]], report: Report) -> Bottle:
    parents = {key: values.get("extends", ()) for key, values in bottles.items()}
    layers = [bottles[part] for part in ancestry(title, parents)]
    return build(title, layers, parents[title], report.origin(("bottles", title)))


def _combine(title: str, parts: tuple[str, ...], bottles: Mapping[str, dict[str, Any]]) -> Bottle:
    parents = {key: values.get("extends", ()) for key, values in bottles.items()}
    layers = [bottles[part] for part in ancestry(title, {**parents, title: parts}) if part != title]
    return build(title, layers, parts, "")


def _named(raw: object, key: str) -> tuple[str, ...]:
    """The names under a key as far as they can be read; what is wrong with them is reported elsewhere."""
    value = raw.get(key) if isinstance(raw, Mapping) else None
    kind = names(name())
    return (kind.read(value, (), Report()) if value is not None else None) or ()
