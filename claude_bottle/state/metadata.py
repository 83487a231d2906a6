"""What is durably known of one launch; never a secret, never liveness. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

SCHEMA = 1
_LAST_SECOND = 1e11  # of a time that can be meant; what is beyond, and what is no number, breaks a list


class BadMetadata(ValueError):
    """The file is not metadata that this version can read; the message says why."""

    def __init__(self, message: str, newer: bool = False) -> None:
        super().__init__(message)
        self.newer = newer


class Metadata(NamedTuple):
    """Times are seconds after the epoch; `repository` and `base` are empty without a git workspace."""

    slug: str
    agent: str
    bottle: str
    backend: str
    created: float
    workspace: str  # the mode: clone, overlay, copy, bind or none
    origin: str  # the host folder that the workspace came from
    manifest_digest: str
    branch: str = ""
    base: str = ""  # the commit that the work starts from; empty where there was none
    runtime: str = ""  # what the manifest asked for; nothing opens this state behind less
    resources: dict[str, str] | None = None  # what the backend named on the host
    schema: int = SCHEMA


def render(metadata: Metadata) -> str:
    return json.dumps(metadata._asdict(), indent=1, sort_keys=True) + "\n"


def parse(text: str) -> Metadata:
    """Raises BadMetadata."""
    try:
        obj = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadMetadata("not JSON") from error
    if not isinstance(obj, dict) or not isinstance(obj.get("schema"), int):
        raise BadMetadata("no schema number")
    if obj["schema"] != SCHEMA:
        newer = obj["schema"] > SCHEMA
        raise BadMetadata(f"schema {obj['schema']}, but this version reads {SCHEMA}", newer)
    return _checked(obj)


def _checked(obj: dict[str, Any]) -> Metadata:
    known = set(Metadata._fields)
    if unknown := sorted(obj.keys() - known):
        raise BadMetadata(f"unknown key {unknown[0]}")
    for name in known - {"created", "resources", "schema"}:
        if not isinstance(obj.get(name, ""), str):
            raise BadMetadata(f"{name} is not text")
    created = obj.get("created")
    if isinstance(created, bool) or not isinstance(created, int | float) or not 0 <= created < _LAST_SECOND:
        raise BadMetadata("created is not a time")
    resources = obj.get("resources")
    if resources is not None and not (
        isinstance(resources, dict) and all(isinstance(value, str) for value in resources.values())
    ):
        raise BadMetadata("resources are not text")
    try:
        return Metadata(**obj)
    except TypeError as error:
        raise BadMetadata("a key is missing") from error
