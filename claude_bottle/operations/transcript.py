"""A conversation of Claude Code, as its session file has it, made readable. Pure.

Invariant: whatever the lines hold, what comes out is plain data with bounds, in the order of the lines; a
line that is nothing known is left out, and a damaged one says so. The caller sanitises what it prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

OPERATOR, CLAUDE, TOOL, SYSTEM = "operator", "claude", "tool", "system"
_TEXT, _INPUT = 64 << 10, 4 << 10
_BLOCKS = 200
_LONGEST, _MOST, _SHORT = 1000, 400, 6  # of a line in text form; of lines in a message; in a tool's answer


class Entry(NamedTuple):
    """Something that was said or done. `cut` counts the characters that are left out of `text`."""

    at: str
    who: str  # operator, claude, tool, system
    what: str  # says, thinks, calls, answers, fails, notes
    text: str
    tool: str = ""
    aside: bool = False  # between claude and an agent of its own
    cut: int = 0


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Of one session. A call and its answer name the same tool."""
    tools: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            yield Entry("", SYSTEM, "notes", "a damaged line")
        elif record.get("type") in ("user", "assistant", "system", "summary"):
            yield from _entries(record, tools)


def _entries(record: Mapping[str, Any], tools: dict[str, str]) -> Iterator[Entry]:
    at, kind = _string(record.get("timestamp"))[:40], record["type"]
    aside = record.get("isSidechain") is True
    if kind in ("system", "summary"):
        said = _string(record.get("content")) or _string(record.get("summary"))
        if said:
            yield _cut(Entry(at, SYSTEM, "notes", said, aside=aside), _TEXT)
        return
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    who = CLAUDE if kind == "assistant" else SYSTEM if record.get("isMeta") is True else OPERATOR
    if isinstance(content, str):
        yield _cut(Entry(at, who, "says", content, aside=aside), _TEXT)
    elif isinstance(content, list):
        for block in content[:_BLOCKS]:
            if isinstance(block, dict) and (found := _block(block, at, who, tools)) is not None:
                yield found._replace(aside=aside)
        if len(content) > _BLOCKS:
            yield Entry(at, SYSTEM, "notes", f"{len(content) - _BLOCKS} more parts", aside=aside)


def _block(block: Mapping[str, Any], at: str, who: str, tools: dict[str, str]) -> Entry | None:
    kind = block.get("type")
    if kind == "text":
        return _cut(Entry(at, who, "says", _string(block.get("text"))), _TEXT)
    if kind == "thinking":
        return _cut(Entry(at, who, "thinks", _string(block.get("thinking"))), _TEXT)
    if kind == "tool_use":
        name = _string(block.get("name"))[:100]
        if len(tools) < 100_000:
            tools[_string(block.get("id"))[:200]] = name
        return _cut(Entry(at, who, "calls", _input(block.get("input")), name), _INPUT)
    if kind == "tool_result":
        name = tools.get(_string(block.get("tool_use_id"))[:200], "")
        what = "fails" if block.get("is_error") is True else "answers"
        return _cut(Entry(at, TOOL, what, _result(block.get("content")), name), _TEXT)
    return Entry(at, who, "says", f"[{_string(kind)[:100] or 'something'}]")


def _input(given: object) -> str:
    """What a tool is called with: the one value that says all, or every value by its name."""
    if not isinstance(given, dict):
        return _plain(given)
    shown = {name: value for name, value in given.items() if name not in ("description", "replace_all")}
    if len(shown) == 1:
        return _plain(next(iter(shown.values())))
    return "\n".join(f"{name}: {_plain(value)}" for name, value in shown.items())


def _result(content: object) -> str:
    if isinstance(content, list):
        parts = [part if isinstance(part, dict) else {} for part in content[:_BLOCKS]]
        return "\n".join(
            _string(part.get("text")) or f"[{_string(part.get('type'))[:100]}]" for part in parts
        )
    return _plain(content)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _cut(entry: Entry, limit: int) -> Entry:
    over = len(entry.text) - limit
    return entry._replace(text=entry.text[:limit], cut=over) if over > 0 else entry


def as_json(entry: Entry, session: str) -> str:
    """One line, all of it ASCII."""
    return json.dumps({"schema": 1, "session": session, **entry._asdict()})


def as_lines(entry: Entry) -> Iterator[str]:
    """Who, when and what, then the text below it; answers of tools in short."""
    when = entry.at[:19].replace("T", " ")
    words = [
        entry.who,
        entry.what,
        *([entry.tool] if entry.tool else []),
        *(["(aside)"] if entry.aside else []),
    ]
    lines = entry.text.rstrip().split("\n") if entry.text.strip() else []
    most = _SHORT if entry.who == TOOL else _MOST
    brief = len(lines) == 1 and entry.who != OPERATOR and entry.what == "calls"
    yield f"{when} {' '.join(words)}{': ' + lines[0][:_LONGEST] if brief else ''}".lstrip()
    if brief:
        lines = []
    for line in lines[:most]:
        yield f"    {line[:_LONGEST]}{'…' if len(line) > _LONGEST else ''}".rstrip()
    if len(lines) > most or entry.cut:
        more = [f"{len(lines) - most} more lines"] if len(lines) > most else []
        more += [f"{entry.cut} more characters"] if entry.cut else []
        yield f"    … {', '.join(more)}"
