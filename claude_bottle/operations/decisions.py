"""Reading a bottle's decision log. The agent chose what stands in it: data, to be shown with care."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every line that is whole, the older file first. A damaged line becomes an event of its own."""
    for part in (path.with_name(f"{path.name}.1"), path):
        try:
            file = open(part, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed by the with below
        except FileNotFoundError:
            continue
        with file:
            for line in file:
                yield parse(line)


def parse(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"event": "damaged line"}


def describe(event: dict[str, Any]) -> str:
    """One line for a person; the caller sanitises it."""
    when = str(event.get("at", ""))[11:23]
    verdict = str(event.get("verdict") or event.get("event") or "?")
    where = f"{event.get('host') or ''}:{event.get('port') or ''}" if event.get("host") else ""
    what = " ".join(str(event[key]) for key in ("method", "path") if event.get(key))
    reason = "" if event.get("reason") in (None, "allowed") else f"  {event['reason']}"
    extra = [f"{event['program']}, {event['sidecar']}"] if event.get("program") else []
    if event.get("said"):
        extra.append(f"it said: {event['said']}")
    if event.get("credential"):
        extra.append(f"credential {event['credential']}")
    if event.get("address"):
        extra.append(f"dialled {event['address']}")
    if "bytes_up" in event:
        extra.append(f"{event['bytes_up']} bytes up, {event['bytes_down']} down")
    return (
        f"{when} {event.get('stage', ''):<8} {verdict:<5} {where} {what}{reason}  {'; '.join(extra)}".rstrip()
    )


def summary(path: Path) -> dict[str, int]:
    """How many decisions of each verdict."""
    counted = {"allow": 0, "deny": 0}
    for event in read(path):
        if event.get("verdict") in counted:
            counted[event["verdict"]] += 1
    return counted
