"""Kinds of values: how each is read from plain data, and how a JSON Schema describes it.

Invariant: one `Kind` is the single source for both, so the parser and the published schema
cannot drift apart. Reading never raises and never coerces: a wrong type is a problem, with
its place, and yields None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from claude_bottle.manifest.problems import KeyPath, Report, nearest, show

T = TypeVar("T")
Schema = dict[str, object]
MAX_ITEMS = 1000


class Kind(NamedTuple, Generic[T]):
    """`read(value, path, report)` returns the checked value, or None with a problem reported."""

    read: Callable[[object, KeyPath, Report], T | None]
    schema: Schema


class Key(NamedTuple):
    """One key of a record."""

    kind: Kind[Any]
    doc: str
    required: bool = False


def text(check: Callable[[str], T], **schema: object) -> Kind[T]:
    """Text that `check` turns into a value or refuses with ValueError."""

    def read(value: object, path: KeyPath, report: Report) -> T | None:
        if not isinstance(value, str):
            _mistyped("text", value, path, report)
            return None
        try:
            value.encode()  # JSON can spell half of a surrogate pair, which no file or argument can hold
            return check(value)
        except UnicodeEncodeError:
            report.add(path, "the text has a character that cannot be written as UTF-8")
        except ValueError as error:
            report.add(path, str(error))
        return None

    return Kind(read, {"type": "string", **schema})


def pattern(regex: str, message: str, limit: int = 255) -> Kind[str]:
    """Text that matches a regular expression as a whole."""
    import re

    compiled = re.compile(regex)

    def check(value: str) -> str:
        if len(value) > limit or not compiled.fullmatch(value):
            raise ValueError(message)
        return value

    return text(check, pattern=f"^(?:{regex})$", maxLength=limit)


def line(limit: int = 500) -> Kind[str]:
    """One printable, non-empty line that no program takes for an option."""

    def check(value: str) -> str:
        if not value.strip() or len(value) > limit or not value.isprintable() or value.startswith("-"):
            raise ValueError(
                f"expected one printable line of at most {limit} characters, not beginning with a hyphen"
            )
        return value

    return text(check, minLength=1, maxLength=limit, pattern="^[^-]")


def choice(*words: str) -> Kind[str]:
    """One of the words; without words nothing is valid yet."""

    def read(value: object, path: KeyPath, report: Report) -> str | None:
        if not isinstance(value, str):
            _mistyped("text", value, path, report)
            return None
        if value in words:
            return value
        report.add(path, "unknown value" if words else "none exist yet", nearest(value, words))
        return None

    return Kind(read, {"type": "string", "enum": list(words)} if words else {"type": "string", "not": {}})


def number(low: float, high: float, *, whole: bool) -> Kind[float]:
    article = "a whole" if whole else "a"
    name = f"{article} number from {low:g} to {high:.0f}"

    def read(value: object, path: KeyPath, report: Report) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            _mistyped(name, value, path, report)
            return None
        if not low <= value <= high:
            report.add(path, f"expected {name}")
            return None
        return value

    return Kind(read, {"type": "integer" if whole else "number", "minimum": low, "maximum": high})


def boolean() -> Kind[bool]:
    def read(value: object, path: KeyPath, report: Report) -> bool | None:
        if isinstance(value, bool):
            return value
        _mistyped("true or false", value, path, report)
        return None

    return Kind(read, {"type": "boolean"})


def list_of(
    item: Kind[T], *, least: int = 0, same: Callable[[T], object] | None = None
) -> Kind[tuple[T, ...]]:
    """A list in which no word, and nothing that is the `same`, stands twice.

    `least=1` where an empty list could be read as "none" or as "any".
    """

    def read(value: object, path: KeyPath, report: Report) -> tuple[T, ...] | None:
        if not isinstance(value, list):
            _mistyped("a list", value, path, report)
            return None
        if not least <= len(value) <= MAX_ITEMS:
            message = "the list is empty" if not value else f"more than {MAX_ITEMS} items"
            report.add(path, message, "" if value else "leave the key out if nothing is meant")
            return None
        found: list[T] = []
        seen: set[object] = set()
        for at, entry in enumerate(value):
            checked = item.read(entry, (*path, at), report)
            if checked is None:
                continue
            identity = same(checked) if same else checked if isinstance(checked, (str, int)) else at
            if identity in seen:
                report.add((*path, at), "is in the list already")
                continue
            seen.add(identity)
            found.append(checked)
        return tuple(found)

    return Kind(read, {"type": "array", "items": item.schema, "minItems": least, "maxItems": MAX_ITEMS})


def map_of(key: Kind[str], item: Kind[T]) -> Kind[dict[str, T]]:
    """Names of the writer's choice, each with a value of one kind."""

    def read(value: object, path: KeyPath, report: Report) -> dict[str, T] | None:
        if not isinstance(value, Mapping):
            _mistyped("a mapping", value, path, report)
            return None
        if len(value) > MAX_ITEMS:
            report.add(path, f"more than {MAX_ITEMS} entries")
            return None
        found: dict[str, T] = {}
        for name, entry in value.items():
            checked_name = read_key(name, path, report) and key.read(name, (*path, name), report)
            checked = item.read(entry, (*path, str(name)), report)
            if checked_name and checked is not None:
                found[checked_name] = checked
        return found

    return Kind(
        read,
        {
            "type": "object",
            "propertyNames": key.schema,
            "additionalProperties": item.schema,
            "maxProperties": MAX_ITEMS,
        },
    )


def record(
    keys: Mapping[str, Key],
    build: Callable[[dict[str, Any], KeyPath, Report], T | None],
    clash: Callable[[Mapping[object, object], KeyPath, Report], None] | None = None,
) -> Kind[T]:
    """A mapping with a fixed set of keys.

    `clash` sees the keys as written and reports what cannot stand together, even where a value is wrong
    too; `build` sees the checked values, and only if nothing in this record was reported.
    """

    def read(value: object, path: KeyPath, report: Report) -> T | None:
        if not isinstance(value, Mapping):
            _mistyped("a mapping", value, path, report)
            return None
        before = len(report.problems)
        checked: dict[str, Any] = {}
        meant: set[str] = set()  # keys that a misspelt one seems to mean are not also reported missing
        for name, entry in value.items():
            if not read_key(name, path, report):
                continue
            if name in keys:
                checked[name] = keys[name].kind.read(entry, (*path, name), report)
                continue
            hint = nearest(name, keys)
            meant.update(known for known in keys if hint == f'did you mean "{known}"?')
            report.add((*path, name), "unknown key", hint)
        for name, key in keys.items():
            if key.required and name not in value and name not in meant:
                report.add(path, f'the key "{name}" is missing')
        if clash is not None:
            clash(value, path, report)
        return build(checked, path, report) if len(report.problems) == before else None

    return Kind(
        read,
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {**key.kind.schema, "description": key.doc} for name, key in keys.items()},
            "required": [name for name, key in keys.items() if key.required],
        },
    )


def by_type(expected: str, kinds: Mapping[type, Kind[T]]) -> Kind[T]:
    """A value that may be written in several types, each of its own kind."""

    def read(value: object, path: KeyPath, report: Report) -> T | None:
        for kind_type, kind in kinds.items():
            if isinstance(value, kind_type):
                return kind.read(value, path, report)
        _mistyped(expected, value, path, report)
        return None

    return Kind(read, {"anyOf": [kind.schema for kind in kinds.values()]})


def mapped(kind: Kind[Any], change: Callable[[Any], T]) -> Kind[T]:
    """The same kind with its value changed after reading."""

    def read(value: object, path: KeyPath, report: Report) -> T | None:
        checked = kind.read(value, path, report)
        return None if checked is None else change(checked)

    return Kind(read, kind.schema)


def read_key(name: object, path: KeyPath, report: Report) -> bool:
    """Whether a mapping's key is text; YAML reads a bare `on`, `no` or `1` as something else."""
    if isinstance(name, str):
        return True
    report.add(path, f"the key {show(str(name))} is not text", "write it in quotes")
    return False


def _mistyped(expected: str, value: object, path: KeyPath, report: Report) -> None:
    names = {type(None): "nothing", bool: "true/false", str: "text", list: "a list", dict: "a mapping"}
    found = names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
    quotable = expected == "text" and not isinstance(value, (list, Mapping, type(None)))
    report.add(path, f"expected {expected}, found {found}", "write it in quotes" if quotable else "")
