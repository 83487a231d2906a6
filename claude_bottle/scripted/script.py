"""The script of a scripted model, and how it is followed without a memory.

Invariant: what is said next is a pure function of the script and of the conversation in the request.
The number of turns that were said is read from the conversation itself, so a retried request gets the
same turn again, and a conversation that is continued by another process goes on where it stood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

QUOTED = 400  # characters of what came back that a failure repeats


@dataclass(frozen=True, slots=True)
class Expect:
    """What a text (and, for a tool, its error flag) must look like; empty means anything."""

    contains: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    matches: str | None = None
    is_error: bool | None = None

    def unmet(self, text: str, is_error: bool = False) -> Iterator[str]:
        """Each condition that does not hold, as a readable string."""
        for wanted in self.contains:
            if wanted not in text:
                yield f"does not contain {wanted!r}: {_quote(text)}"
        for unwanted in self.lacks:
            if unwanted in text:
                yield f"contains {unwanted!r}: {_quote(text)}"
        if self.matches is not None and not re.search(self.matches, text, re.MULTILINE):
            yield f"does not match {self.matches!r}: {_quote(text)}"
        if self.is_error is not None and self.is_error != is_error:
            yield f"{'is' if is_error else 'is not'} an error: {_quote(text)}"


@dataclass(frozen=True, slots=True)
class ToolUse:
    name: str
    input: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of the model, and what must hold before it is given."""

    say: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    expect: tuple[Expect, ...] = ()  # about the results of the previous turn's tools, in order
    prompt: Expect | None = None  # about the user's text since the previous turn
    system: Expect | None = None  # about the system prompt
    delay_ms: int | None = None  # between the events of this answer


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    turns: tuple[Turn, ...]
    main_tool: str = "Bash"  # a request that offers this tool belongs to the conversation
    require_headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `turn` is the index of the turn that is said, or None for anything else."""

    blocks: tuple[Mapping[str, object], ...]
    turn: int | None = None
    delay_ms: int = 0
    failures: tuple[str, ...] = ()

    @property
    def stop_reason(self) -> str:
        return "tool_use" if any(block["type"] == "tool_use" for block in self.blocks) else "end_turn"


def is_main(script: Script, request: Mapping[str, object]) -> bool:
    """Whether a request belongs to the conversation; Claude Code's side requests offer no tools."""
    return any(tool.get("name") == script.main_tool for tool in _mappings(request.get("tools")))


def turns_said(script: Script, request: Mapping[str, object]) -> int:
    """How many turns the conversation already holds.

    Assistant messages that are no turn of the script are passed over: Claude Code writes some itself
    (after an API error, an interrupt or a resume), and an ended conversation holds the reason.
    """
    return _progress(script, _mappings(request.get("messages")))[0]


def advance(script: Script, request: Mapping[str, object], headers: Mapping[str, str]) -> Reply:
    """The answer to a request for a message: the next turn, or the reason why there is none."""
    failures = list(_unmet_headers(script, headers))
    if not is_main(script, request):
        return Reply((_text("ok"),), failures=tuple(failures))
    messages = _mappings(request.get("messages"))
    said, since = _progress(script, messages)
    if said == len(script.turns):
        failures.append(f"script {script.name!r} has no turn {said}: it has ended")
        return _ended(failures)
    turn, place = script.turns[said], f"turns[{said}]"
    if said:
        results = _tool_results(messages)
        failures.extend(f"{place} {line}" for line in _unmet_results(script, said, results))
    if turn.prompt:
        prompt = "\n".join(_texts(m.get("content")) for m in messages[since:] if m.get("role") == "user")
        failures.extend(f"{place} prompt {line}" for line in turn.prompt.unmet(prompt))
    if turn.system:
        system = _system_text(request)
        failures.extend(f"{place} system prompt {line}" for line in turn.system.unmet(system))
    if failures:
        return _ended(failures)
    tools = (
        {"type": "tool_use", "id": tool_id(script, said, n), "name": tool.name, "input": dict(tool.input)}
        for n, tool in enumerate(turn.tools)
    )
    delay = script.delay_ms if turn.delay_ms is None else turn.delay_ms
    return Reply((*map(_text, turn.say), *tools), said, delay)


def tool_id(script: Script, turn: int, n: int) -> str:
    return f"toolu_{script.name}_{turn}_{n}"


def _ended(failures: Sequence[str]) -> Reply:
    lines = "\n".join(f"- {failure}" for failure in failures)
    return Reply((_text(f"The scripted conversation ends here:\n{lines}"),), failures=tuple(failures))


def _progress(script: Script, messages: Sequence[Mapping[str, object]]) -> tuple[int, int]:
    """(turns said, index of the message after the last of them)."""
    said = since = 0
    for index, message in enumerate(messages):
        if (
            message.get("role") == "assistant"
            and said < len(script.turns)
            and _is_turn(script, said, message)
        ):
            said, since = said + 1, index + 1
    return said, since


def _is_turn(script: Script, index: int, message: Mapping[str, object]) -> bool:
    """Tool ids are the script's own and decide; a turn without tools is known by its words."""
    turn = script.turns[index]
    content = message.get("content")
    ids = [block.get("id") for block in _mappings(content) if block.get("type") == "tool_use"]
    if turn.tools or ids:
        return ids == [tool_id(script, index, n) for n in range(len(turn.tools))]
    return _texts(content).split() == "\n".join(turn.say).split()


def _unmet_results(script: Script, said: int, results: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    expect = script.turns[said].expect
    for n, tool in enumerate(script.turns[said - 1].tools):
        result = results.get(tool_id(script, said - 1, n))
        place = f"result {n} ({tool.name})"
        if result is None:
            yield f"{place} did not come back"
        elif n < len(expect):
            text = _texts(result.get("content"))
            yield from (f"{place} {line}" for line in expect[n].unmet(text, result.get("is_error") is True))


def _unmet_headers(script: Script, headers: Mapping[str, str]) -> Iterator[str]:
    """Never repeats a value: a required header usually is a credential."""
    seen = {name.lower(): value for name, value in headers.items()}
    for name, value in script.require_headers.items():
        if seen.get(name.lower()) != value:
            state = "is missing" if name.lower() not in seen else "has another value"
            yield f"header {name} {state}"


def _tool_results(messages: Iterable[Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    blocks = (block for message in messages for block in _mappings(message.get("content")))
    return {str(block.get("tool_use_id")): block for block in blocks if block.get("type") == "tool_result"}


def _system_text(request: Mapping[str, object]) -> str:
    messages = (m for m in _mappings(request.get("messages")) if m.get("role") == "system")
    return "\n".join((_texts(request.get("system")), *(_texts(m.get("content")) for m in messages)))


def _mappings(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _texts(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(b.get("text", "")) for b in _mappings(content) if b.get("type") == "text")


def _text(text: str) -> Mapping[str, object]:
    return {"type": "text", "text": text}


def _quote(text: str) -> str:
    return repr(text if len(text) <= QUOTED else f"{text[:QUOTED]}... ({len(text)} characters)")
