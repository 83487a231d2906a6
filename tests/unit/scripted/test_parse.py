"""The parser: strict, all mistakes at once, each with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import EXIT_USAGE, NotFoundError
from claude_bottle.scripted.parse import MAX_SCRIPT_BYTES, ScriptError, load_script, parse_script
from claude_bottle.scripted.script import Expect, ToolUse

FIXTURES = Path(__file__).parents[2] / "fixtures" / "scripts"


def problems(obj: object) -> tuple[str, ...]:
    with pytest.raises(ScriptError) as caught:
        parse_script(obj, "here")
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value.problems


def one(**turn: Any) -> dict[str, Any]:
    return {"name": "x", "turns": [turn]}


def test_a_whole_script() -> None:
    script = parse_script(
        {
            "name": "a-b",
            "delay_ms": 5,
            "main_tool": "Read",
            "require_headers": {"x-api-key": "real"},
            "turns": [
                {"say": ["a", "b"], "tools": [{"name": "Bash", "input": {"command": "ls"}}], "delay_ms": 0},
                {"say": "c", "expect": [{"contains": "x", "lacks": ["y", "z"], "is_error": False}]},
            ],
        }
    )
    assert script.turns[0].say == ("a", "b")
    assert script.turns[0].tools == (ToolUse("Bash", {"command": "ls"}),)
    assert (script.turns[0].delay_ms, script.turns[1].delay_ms, script.delay_ms) == (0, None, 5)
    assert script.turns[1].expect == (Expect(contains=("x",), lacks=("y", "z"), is_error=False),)
    assert (script.main_tool, dict(script.require_headers)) == ("Read", {"x-api-key": "real"})


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        {
            "nmae": "x",
            "turns": [
                {"say": 3},
                {},
                {"say": "a", "expect": [{"matches": "("}, {"is_error": "no"}]},
                {"tools": [{"name": "Bash"}]},
            ],
        }
    )
    assert found == (
        "nmae is not a known key; did you mean name?",
        "name is missing",
        "turns[0].say must be a text that is not empty",
        "turns[1] says nothing: it needs say or tools",
        "turns[2].expect[0].matches is not a regular expression: "
        "missing ), unterminated subpattern at position 0",
        "turns[2].expect[1].is_error must be true or false",
        "turns[3].tools[0].input is missing",
        "turns[2].expect speaks about 2 results, but the previous turn has 0 tools",
    )


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ([], "the script must be a mapping"),
        ({"name": "A b", "turns": [{"say": "x"}]}, "name must be 1-40 of a-z"),
        ({"name": "x", "turns": []}, "turns must hold at least one turn"),
        ({"name": "x", "turns": {}}, "turns must be a list"),
        (one(say="x", expect=[{}]), "turns[0].expect speaks about 1 results"),
        (one(say=[]), "turns[0] says nothing"),
        (one(say="x", delay_ms=True), "turns[0].delay_ms must be a whole number"),
        (one(say="x", delay_ms=10_001), "turns[0].delay_ms must be a whole number"),
        (one(say="x", prompt={"is_error": True}), "turns[0].prompt.is_error is not a known key"),
        (one(tools=[{"name": "Bash", "input": []}]), "turns[0].tools[0].input must be a mapping"),
        (
            one(tools=[{"name": "B", "input": {"a": float("nan")}}]),
            "turns[0].tools[0].input cannot be written",
        ),
        ({**one(say="x"), "require_headers": {"a b": "c"}}, "require_headers 'a b' is not the name"),
        ({**one(say="x"), "require_headers": {"a": 1}}, "require_headers.a must be a text"),
        ({**one(say="x"), 3: 4}, "3 is not a known key"),
    ],
)
def test_a_mistake(script: object, problem: str) -> None:
    assert any(found.startswith(problem) for found in problems(script)), problems(script)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: x\nturns: [{say: no}]\n")
    with pytest.raises(ScriptError) as caught:
        load_script(path)
    assert caught.value.message == f"{path}: turns[0].say must be a text that is not empty"


@pytest.mark.parametrize(("name", "content"), [("s.json", "{"), ("s.yaml", "a: [\n"), ("s.yaml", "\x00")])
def test_a_file_that_cannot_be_read_as_what_it_says(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ScriptError, match="is not"):
        load_script(path)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(b" " * (MAX_SCRIPT_BYTES + 1))
    with pytest.raises(ScriptError, match="larger"):
        load_script(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_script(tmp_path / "s.yaml")


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(one(say="x")))
    (tmp_path / "s.yaml").write_text("name: x\nturns:\n  - say: x\n")
    assert load_script(tmp_path / "s.json") == load_script(tmp_path / "s.yaml")


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_fixture_can_be_read(path: Path) -> None:
    assert load_script(path).name == path.stem
