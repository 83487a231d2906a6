"""From a script as written (YAML or JSON) to a `Script`.

Invariant: strict. An unknown key or a value of the wrong kind is an error, nothing is replaced by
a default, and all mistakes are told at once, each with its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from claude_bottle.errors import EXIT_USAGE, BottleError, NotFoundError
from claude_bottle.scripted.script import Expect, Script, ToolUse, Turn

MAX_SCRIPT_BYTES = 1 << 20
MAX_DELAY_MS = 10_000
T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_HEADER = re.compile(r"[A-Za-z0-9-]+")


class ScriptError(BottleError):
    """A script that cannot be followed: every mistake in it, each with its place."""

    exit_code = EXIT_USAGE

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{origin}: {problem}" for problem in self.problems))


def load_script(path: Path) -> Script:
    """Read a script from a `.json` or `.yaml` file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SCRIPT_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no script at {path}") from None
    except OSError as error:
        raise ScriptError(str(path), [f"cannot be read: {error.strerror}"]) from error
    if len(data) > MAX_SCRIPT_BYTES:
        raise ScriptError(str(path), [f"is larger than {MAX_SCRIPT_BYTES} bytes"])
    return parse_script(_decode(path, data), str(path))


def _decode(path: Path, data: bytes) -> object:
    if path.suffix == ".json":
        try:
            return json.loads(data)
        except ValueError as error:
            raise ScriptError(str(path), [f"is not JSON: {error}"]) from error
    import yaml  # only needed here, and slow to import

    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ScriptError(str(path), [f"is not YAML: {error}"]) from error


def parse_script(obj: object, origin: str = "script") -> Script:
    """A mapping as written -> Script; raises one ScriptError that holds every mistake."""
    reader = _Reader()
    script = reader.script(obj)
    if reader.problems:
        raise ScriptError(origin, reader.problems)
    return script


class _Reader:
    """Collects problems and goes on; its results count only when there was no problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def script(self, obj: object) -> Script:
        known = ("name", "turns", "main_tool", "require_headers", "delay_ms")
        raw = self.mapping(obj, "", known, required=("name", "turns"))
        name = self.text(raw.get("name", "x"), "name")
        if not _NAME.fullmatch(name):
            self.problem("name", "must be 1-40 of a-z, 0-9 and -, and start with a letter or digit")
        turns = tuple(self.items(raw.get("turns", []), "turns", self.turn))
        if not turns and "turns" in raw:
            self.problem("turns", "must hold at least one turn")
        self.check_expectations(turns)
        return Script(
            name,
            turns,
            main_tool=self.text(raw.get("main_tool", "Bash"), "main_tool"),
            require_headers=self.headers(raw.get("require_headers", {}), "require_headers"),
            delay_ms=self.delay(raw.get("delay_ms", 0), "delay_ms"),
        )

    def turn(self, obj: object, place: str) -> Turn:
        raw = self.mapping(obj, place, ("say", "tools", "expect", "prompt", "system", "delay_ms"))
        turn = Turn(
            say=self.text_list(raw.get("say", []), f"{place}.say"),
            tools=tuple(self.items(raw.get("tools", []), f"{place}.tools", self.tool)),
            expect=tuple(self.items(raw.get("expect", []), f"{place}.expect", self.tool_expect)),
            prompt=self.text_expect(raw["prompt"], f"{place}.prompt") if "prompt" in raw else None,
            system=self.text_expect(raw["system"], f"{place}.system") if "system" in raw else None,
            delay_ms=self.delay(raw["delay_ms"], f"{place}.delay_ms") if "delay_ms" in raw else None,
        )
        if not turn.say and not turn.tools:
            self.problem(place, "says nothing: it needs say or tools")
        return turn

    def tool(self, obj: object, place: str) -> ToolUse:
        raw = self.mapping(obj, place, ("name", "input"), required=("name", "input"))
        value = raw.get("input", {})
        if not isinstance(value, dict):
            self.problem(f"{place}.input", "must be a mapping")
            value = {}
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            self.problem(f"{place}.input", f"cannot be written as JSON: {error}")
        return ToolUse(self.text(raw.get("name", "x"), f"{place}.name"), MappingProxyType(value))

    def tool_expect(self, obj: object, place: str) -> Expect:
        return self.expect(obj, place, ("contains", "lacks", "matches", "is_error"))

    def text_expect(self, obj: object, place: str) -> Expect:
        return self.expect(obj, place, ("contains", "lacks", "matches"))

    def expect(self, obj: object, place: str, known: tuple[str, ...]) -> Expect:
        raw = self.mapping(obj, place, known)
        pattern, is_error = raw.get("matches"), raw.get("is_error")
        if "matches" in raw:
            pattern = self.text(pattern, f"{place}.matches")
            try:
                re.compile(pattern)
            except re.error as error:
                self.problem(f"{place}.matches", f"is not a regular expression: {error}")
        if "is_error" in raw and not isinstance(is_error, bool):
            self.problem(f"{place}.is_error", "must be true or false")
        return Expect(
            contains=self.text_list(raw.get("contains", []), f"{place}.contains"),
            lacks=self.text_list(raw.get("lacks", []), f"{place}.lacks"),
            matches=pattern if isinstance(pattern, str) else None,
            is_error=is_error if isinstance(is_error, bool) else None,
        )

    def check_expectations(self, turns: Sequence[Turn]) -> None:
        for index, turn in enumerate(turns):
            tools = len(turns[index - 1].tools) if index else 0
            if len(turn.expect) > tools:
                count = f"{len(turn.expect)} results, but the previous turn has {tools} tools"
                self.problem(f"turns[{index}].expect", f"speaks about {count}")

    def headers(self, obj: object, place: str) -> Mapping[str, str]:
        if not isinstance(obj, dict):
            self.problem(place, "must be a mapping")
            return {}
        for name in obj:
            if not isinstance(name, str) or not _HEADER.fullmatch(name):
                self.problem(place, f"{name!r} is not the name of a header")
        return MappingProxyType({str(name): self.text(obj[name], f"{place}.{name}") for name in obj})

    def delay(self, value: object, place: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_DELAY_MS:
            self.problem(place, f"must be a whole number from 0 to {MAX_DELAY_MS}")
            return 0
        return value

    def text_list(self, value: object, place: str) -> tuple[str, ...]:
        """A text, or a list of texts."""
        if isinstance(value, list):
            return tuple(self.items(value, place, self.text))
        return (self.text(value, place),)

    def text(self, value: object, place: str) -> str:
        if not isinstance(value, str) or not value:
            self.problem(place, "must be a text that is not empty")
            return "x"
        return value

    def items(self, value: object, place: str, read: Callable[[object, str], T]) -> list[T]:
        if not isinstance(value, list):
            self.problem(place, "must be a list")
            return []
        return [read(item, f"{place}[{index}]") for index, item in enumerate(value)]

    def mapping(
        self, obj: object, place: str, known: Sequence[str], required: Sequence[str] = ()
    ) -> dict[str, object]:
        if not isinstance(obj, dict):
            self.problem(place, "must be a mapping")
            return {}
        for key in obj:
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
                self.problem(_join(place, key), f"is not a known key{hint}")
        for key in required:
            if key not in obj:
                self.problem(_join(place, key), "is missing")
        return obj

    def problem(self, place: str, text: str) -> None:
        self.problems.append(f"{place or 'the script'} {text}")


def _join(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)
