"""Reading the audit log for an operator. Text in it may be an agent's; the caller makes it safe to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from claude_bottle.errors import UsageError
from claude_bottle.policy.durations import parse_duration
from claude_bottle.state import audit
from claude_bottle.state.paths import Home

_OF_FRAME = {*audit.FRAME, "slug"}


def select(home: Home, agent: str | None, since: str | None, kind: str | None) -> Iterator[dict[str, Any]]:
    """The lines of an agent or a slug, from a time on, of a kind; what is no line is always among them."""
    begin = None if since is None else moment(since, audit.utc_now())
    for line in audit.read(home, begin):
        damaged = line["kind"] == "damaged"
        if kind is not None and line["kind"] != kind and not damaged:
            continue
        if agent is not None and agent not in (line.get("agent"), line.get("slug")) and not damaged:
            continue
        if begin is not None and not damaged and _time(line) < begin:
            continue
        yield line


def moment(text: str, now: datetime) -> datetime:
    """How long ago, or when. Raises UsageError."""
    try:
        return now - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", "such as 2h, 7d, 2026-11-22 or 2026-11-22T10:00") from None
    return found.astimezone(UTC) if found.tzinfo is not None else found.astimezone().astimezone(UTC)


def _time(line: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(line.get("at")))
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)  # shown rather than left out


def as_fields(line: Mapping[str, Any]) -> tuple[str, ...]:
    """When, kind, whose, what, by whom."""
    who, source = line.get("who"), line.get("from")
    name = who.get("name") or who.get("uid") if isinstance(who, dict) else ""
    place = source.get("tty") or source.get("program") if isinstance(source, dict) else ""
    whose = str(line.get("slug") or line.get("agent") or "-")
    return (str(line.get("at"))[:19], str(line["kind"]), whose, _what(line), f"{name} {place}".strip() or "-")


def _asked(found: object) -> list[str]:
    """Of a proposal: the tool, what for, and why."""
    asked = found.get("asked") if isinstance(found, dict) else None
    if not isinstance(asked, dict):
        return []
    route, packages = asked.get("route"), asked.get("packages")
    host = route.get("host") if isinstance(route, dict) else None
    added = " ".join(map(str, packages)) if isinstance(packages, list) else ""
    what = host or added or asked.get("dockerfile") or asked.get("url")
    return [str(word) for word in (asked.get("kind"), what, asked.get("justification")) if word]


def _what(line: Mapping[str, Any]) -> str:
    """In a few words: the answer and what it is about, else all that there is."""
    words = [
        str(line[key]) for key in ("decision", "answer", "proposal", "what", "state", "why") if line.get(key)
    ]
    if line["kind"] == "proposal":
        words += _asked(line.get("asked"))
    granted = line.get("granted")
    route = granted.get("route") if isinstance(granted, dict) else None
    if isinstance(route, dict):
        words.append(str(route.get("host")))
    words += [f"{key}: {line[key]}" for key in ("reason", "error", "detail") if line.get(key)]
    words += [f"{sign} {item}" for key, sign in (("gone", "-"), ("new", "+")) for item in line.get(key) or ()]
    if not words:
        words = [f"{key} {value}" for key, value in line.items() if key not in _OF_FRAME]
    return "; ".join(words)
