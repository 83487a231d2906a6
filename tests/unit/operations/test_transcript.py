"""A conversation made readable: as the real Claude Code writes it, and whatever else a line may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.operations.transcript import Entry, as_json, as_lines, entries
from claude_bottle.text import shown

FOLDER = Path(__file__).parents[2] / "fixtures" / "transcripts"


def one(**record: Any) -> Entry:
    (found,) = entries([json.dumps(record)])
    return found


def message(*blocks: Any, kind: str = "assistant", **more: Any) -> str:
    return json.dumps(
        {"type": kind, "timestamp": "2026-11-21T22:59:37.462Z", "message": {"content": list(blocks)}, **more}
    )


def lines_of(entry: Entry) -> list[str]:
    return list(as_lines(entry))


def test_a_real_session_reads_as_it_should() -> None:
    """`session.jsonl` is the real binary's, less what it tells itself; made with the scripted model."""
    with open(FOLDER / "session.jsonl", encoding="utf-8") as file:
        shown_lines = [
            shown(line.replace("\t", "    "), 2000) for entry in entries(file) for line in as_lines(entry)
        ]
    assert shown_lines == (FOLDER / "session.txt").read_text(encoding="utf-8").splitlines()


def test_who_and_what() -> None:
    assert one(type="user", message={"content": "hi"})[:4] == ("", "operator", "says", "hi")
    assert one(type="user", isMeta=True, message={"content": "hi"}).who == "system"
    assert one(type="summary", summary="about it")[1:4] == ("system", "notes", "about it")
    assert one(type="assistant", isSidechain=True, message={"content": "x"}).aside is True
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls", "description": "d"}}
    fails = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "is_error": True,
        "content": [{"type": "text", "text": "no"}],
    }
    first, second = entries([message(call), message(fails, kind="user")])
    assert (first.who, first.what, first.tool, first.text) == ("claude", "calls", "Bash", "ls")
    assert (second.who, second.what, second.tool, second.text) == ("tool", "fails", "Bash", "no")


def test_what_is_long_is_cut_and_says_how_much() -> None:
    found = one(type="user", message={"content": "x" * 100_000})
    assert (len(found.text), found.cut) == (65536, 100_000 - 65536)
    (_, line, more) = lines_of(found)
    assert (len(line), line[-1]) == (1005, "…")
    assert more == f"    … {found.cut} more characters"
    answer = Entry("", "tool", "answers", "\n".join(map(str, range(50))), "Bash")
    assert lines_of(answer)[-1] == "    … 44 more lines"
    *_, last = entries([message(*({"type": "text", "text": "a"} for _ in range(300)))])
    assert last.text == "100 more parts"


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", "null", '"x"', "[" * 50_000, '{"a":' * 50_000, "9" * 5000, "\0"]
)
def test_a_damaged_line_says_so(line: str) -> None:
    assert [entry.text for entry in entries([line])] == ["a damaged line"]


def test_what_is_not_known_is_left_out() -> None:
    assert list(entries(["", "\n", '{"type": "api-request"}', '{"type": 3}', "{}", '{"type": "user"}'])) == []
    assert one(type="assistant", message={"content": [{"type": "image"}]}).text == "[image]"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "thinking", "tool_use", "tool_result", "odd"]) | json_values},
    optional=dict.fromkeys(
        ("text", "thinking", "name", "id", "input", "content", "tool_use_id"), json_values
    ),
)
records = st.fixed_dictionaries(
    {"type": st.sampled_from(["user", "assistant", "system", "summary"])},
    optional={
        "message": st.fixed_dictionaries({"content": json_values | st.lists(blocks, max_size=4)})
        | json_values,
        "timestamp": json_values,
        "isSidechain": json_values,
        "content": json_values,
        "summary": json_values,
    },
)


@given(st.lists(records.map(json.dumps) | st.text(), max_size=5))
def test_whatever_stands_there_comes_out_as_bounded_plain_lines(lines: list[str]) -> None:
    for entry in entries(lines):
        assert isinstance(entry.text, str)
        assert len(entry.text) <= 65536
        as_object = json.loads(as_json(entry, "s"))
        assert as_object["schema"] == 1
        assert as_json(entry, "s").isascii()
        for line in as_lines(entry):
            assert "\n" not in line
            assert len(line) <= 1300
            assert shown(line, 2000).isprintable()
