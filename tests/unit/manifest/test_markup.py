"""Data and places from YAML and JSON, of texts that may be hostile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.manifest.markup import read_json, read_markdown


def front(text: str) -> list[str]:
    document = read_markdown(f"---\n{text}\n---\nBody", "f.md")
    return [str(problem) for problem in document.problems]


def test_front_matter_and_body() -> None:
    document = read_markdown(
        "---\nbottle: dev\nskills:\n  - a\n  - b\n---\n\n# Title\n\ntext\n", "f.md", ("agents", "x")
    )
    assert document.problems == []
    assert document.data == {"bottle": "dev", "skills": ["a", "b"]}
    assert (document.body, document.body_line) == ("# Title\n\ntext", 8)
    places = {path: position[1:] for path, position in document.positions.items()}
    assert places == {
        ("agents", "x"): (1, 1),
        ("agents", "x", "bottle"): (2, 1),
        ("agents", "x", "skills"): (3, 1),
        ("agents", "x", "skills", 0): (4, 5),
        ("agents", "x", "skills", 1): (5, 5),
    }


def test_empty_front_matter_is_an_empty_mapping() -> None:
    assert read_markdown("---\n---\n", "f.md").data == {}


def test_plain_values_keep_their_types() -> None:
    data = read_markdown("---\na: 1\nb: 1.5\nc: true\nd: no\ne: ~\nf: '1'\ng: none\n---", "f.md").data
    assert data == {"a": 1, "b": 1.5, "c": True, "d": False, "e": None, "f": "1", "g": "none"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x 1\nb: *x", "f.md:3:4: YAML aliases are not taken; write the value out"),
        ("a: 1\nb: 2\na: 3", "f.md:4:1: a: the key is there twice"),
        ("a:\n  - b: 1\n    b: 2", "f.md:4:5: a[0].b: the key is there twice"),
        ("a: 2024-01-01", "f.md:2:4: a: YAML reads this as something special; write it in quotes"),
        ("a: 0x10", "f.md:2:4: a: YAML reads this as something special; write it in quotes"),
        ("a: 1:30", "f.md:2:4: a: YAML reads this as something special; write it in quotes"),
        ("a: .inf", "f.md:2:4: a: YAML reads this as something special; write it in quotes"),
        ("a: !!binary aGk=", "f.md:2:4: a: YAML reads this as something special; write it in quotes"),
        ("a: !!python/object/apply:os.system [id]", "f.md:2:4: a: YAML tags are not taken"),
        ("a: !!set {x}", "f.md:2:4: a: YAML tags are not taken"),
        ("<<: {a: 1}", "f.md:2:1: this is not taken as a key; a key is text"),
        ("? [a]\n: 1", "f.md:2:3: this is not taken as a key; a key is text"),
    ],
)
def test_only_the_plain_part_of_yaml(text: str, problem: str) -> None:
    assert front(text) == [problem]


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "\ta: 1", "a: \x01", "a: 1\n...\nb: 2", "@", "%YAML 9.9"]
)
def test_broken_yaml(text: str) -> None:
    (problem,) = front(text)
    assert problem.startswith("f.md:")
    assert "not YAML" in problem
    assert problem.isprintable()


@pytest.mark.parametrize("text", ["[" * 30_000, "a: " + "{a: " * 10_000, "- " * 20_000])
def test_deep_yaml_neither_crashes_nor_hangs(text: str) -> None:
    (problem,) = front(text)
    assert problem.endswith("nested deeper than 20 levels")


@pytest.mark.parametrize(
    "text", ["[" * 30_000, "a: &x 1\nb: *x", "a: !!python/name:os.system", "a: 0x1", "a: 1\na: 2"]
)
def test_without_the_c_library_the_answers_are_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = [problem.split(": ", 1)[0] for problem in front(text)]
    monkeypatch.delattr("yaml.CSafeLoader", raising=False)
    assert [problem.split(": ", 1)[0] for problem in front(text)] == with_it


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    assert len(front("\n".join(rows))) == 1


@pytest.mark.parametrize(
    "text", ["", "bottle: dev", " ---\na: 1\n---", "---\na: 1\n", "---\n" + "#" * 70_000 + "\n---"]
)
def test_no_front_matter(text: str) -> None:
    document = read_markdown(text, "f.md")
    assert len(document.problems) == 1
    assert document.data is None


def test_places_in_json() -> None:
    text = '{\n\t"bottles": {\n\t\t"dev": {"packages": ["a",\n "b"], "x\\u0041": {}}\n}}'
    document = read_json(text, "m.json")
    assert document.problems == []
    assert {path: position[1:] for path, position in document.positions.items()} == {
        (): (1, 1),
        ("bottles",): (2, 2),
        ("bottles", "dev"): (3, 3),
        ("bottles", "dev", "packages"): (3, 11),
        ("bottles", "dev", "packages", 0): (3, 24),
        ("bottles", "dev", "packages", 1): (4, 2),
        ("bottles", "dev", "xA"): (4, 8),
    }


def test_a_key_twice_in_json() -> None:
    document = read_json('{"a": {"x": 1},\n "a": {"x": 2}, "b": "a"}', "m.json")
    assert [str(problem) for problem in document.problems] == ["m.json:2:2: a: the key is there twice"]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": 1,}', "{'a': 1}", '{"a": NaN}', '{"a": -Infinity}', "[" * 200_000, "1" * 10_000, "// x"],
)
def test_broken_json(text: str) -> None:
    document = read_json(text, "m.json")
    assert len(document.problems) == 1
    assert "not JSON" in str(document.problems[0])


TEXT = st.text(max_size=6)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=15,
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {path}
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        found |= paths(inner, (*path, key))
    return found


@settings(deadline=None)
@given(JSON, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_every_path_of_any_json_has_its_place(value: Any, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = read_json(text, "m.json")
    assert document.problems == []
    assert set(document.positions) == paths(value)
    rows = text.split("\n")
    for path, position in document.positions.items():
        if path and isinstance(path[-1], str):
            assert rows[position.line - 1][position.column - 1 :].startswith(
                json.dumps(path[-1], ensure_ascii=ascii_only)
            )


@settings(deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>?%'\"#, \n\t", max_size=80))
def test_any_text_is_data_or_a_problem(text: str) -> None:
    for document in (
        read_json(text, "f"),
        read_markdown(text, "f"),
        read_markdown(f"---\n{text}\n---\n", "f"),
    ):
        assert all(str(problem).isprintable() for problem in document.problems)
