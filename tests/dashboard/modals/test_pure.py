"""What the modals decide without a screen."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from claude_bottle.cli.proposals import configure
from claude_bottle.dashboard.modals.approve import grave_of, style_of
from claude_bottle.dashboard.modals.bounds import CHOICES, Chosen, choice_of, named, taken
from claude_bottle.dashboard.modals.filtering import picking
from claude_bottle.dashboard.modals.folding import beside, folded, hung, written
from claude_bottle.dashboard.modals.painted import Hint, placed
from claude_bottle.dashboard.modals.searching import diff_lines, line_with, marked, pattern_of
from claude_bottle.dashboard.modals.typed import Typed
from claude_bottle.dashboard.paint import plain
from claude_bottle.text import shown
from tests.dashboard.modals.stage import AGENTS, DIFF

LINES = st.text(max_size=300).map(lambda text: shown(text, 10_000))


@given(LINES, st.integers(2, 40))
def test_nothing_is_lost_in_the_folding_and_everything_fits(text: str, width: int) -> None:
    lines = folded(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(cell_len(line) <= width for line in lines)


@given(st.lists(st.tuples(st.text(max_size=20), LINES), max_size=5), st.integers(20, 60))
def test_labels_and_texts_fit(pairs: list[tuple[str, str]], width: int) -> None:
    assert all(cell_len(line.plain) <= width for line in beside(pairs, width))


def test_a_line_that_goes_on_does_not_look_like_one_that_begins() -> None:
    ours = hung("- " + "a " * 12 + "!! grave", 20)
    assert len(ours) > 1
    assert all(line.startswith("  ") for line in ours[1:])
    theirs = hung("| " + "a " * 12 + "!! grave", 20)
    assert len(theirs) > 1
    assert all(line.startswith("| ") for line in theirs)


def test_a_line_that_fits_is_left_alone() -> None:
    assert hung("a  b   c", 8) == ["a  b   c"]


def test_the_filter_looks_for_a_part_of_the_label_in_any_case() -> None:
    found = picking(AGENTS).filtered("RE")
    assert [item.key for item in found.shown] == ["reviewer", "Researcher"]
    assert [item.key for item in picking(AGENTS).filtered("(2 running)").shown] == []


def test_the_cursor_stays_on_its_item_while_that_is_shown() -> None:
    there = picking(AGENTS).moved(3)
    narrowed = there.filtered("re")
    assert narrowed.item == AGENTS[3]
    assert narrowed.filtered("").item == AGENTS[3]
    assert narrowed.filtered("w").item == AGENTS[0]
    assert narrowed.filtered("nothing").item is None


@pytest.mark.parametrize(("by", "at"), [(1, 1), (-1, 0), (99, 3), (-99, 0)])
def test_the_cursor_stops_at_the_ends(by: int, at: int) -> None:
    assert picking(AGENTS).moved(by).at == at
    assert picking(()).moved(by).item is None


KEYS = st.sampled_from(
    [
        "backspace",
        "delete",
        "left",
        "right",
        "home",
        "end",
        "ctrl+u",
        "ctrl+k",
        "ctrl+w",
        *"ab ",
        "\x1b",
        "f1",
    ]
)


@given(st.lists(st.one_of(KEYS, st.text(max_size=30)), max_size=40), st.integers(1, 20))
def test_what_is_typed_is_printable_and_within_its_limit(keys: list[str], limit: int) -> None:
    line = Typed(limit)
    for key in keys:
        line = line.keyed(key, key if len(key) == 1 else None) or line.put(key)
        assert 0 <= line.at <= len(line.text) <= limit
        assert line.text.isprintable()
        assert "".join(row.plain for row in written(line, 7)).startswith(shown(line.text, 1000))


def after(text: str, *keys: str) -> str:
    line: Typed | None = Typed().put(text)
    for key in keys:
        assert line is not None
        line = line.keyed(key, key if len(key) == 1 else None)
    assert line is not None
    return f"{line.text[: line.at]}|{line.text[line.at :]}"


@pytest.mark.parametrize(
    ("keys", "there"),
    [
        (["x"], "one twox|"),
        (["home", "x"], "x|one two"),
        (["left", "backspace"], "one t|o"),
        (["home", "delete"], "|ne two"),
        (["ctrl+w"], "one |"),
        (["ctrl+w", "ctrl+w"], "|"),
        (["left", "ctrl+u"], "|o"),
        (["home", "right", "ctrl+k"], "o|"),
        (["home", "backspace", "left"], "|one two"),
    ],
)
def test_editing(keys: list[str], there: str) -> None:
    assert after("one two", *keys) == there


def test_a_key_that_edits_nothing_is_no_edit() -> None:
    assert Typed().keyed("f1", None) is None
    assert Typed().keyed("ctrl+x", "\x18") is None


def test_pasted_text_ends_with_its_first_line_and_loses_what_cannot_be_seen() -> None:
    assert Typed().put("a\x1b[31mb\u202e\nrm -rf").text == "a[31mb"


def parsed(options: tuple[str, ...]) -> object:
    import argparse

    parser = argparse.ArgumentParser(exit_on_error=False)
    configure(parser)
    return parser.parse_args(["approve", "p-1", *options])


@pytest.mark.parametrize(
    ("key", "value", "options", "said"),
    [
        ("s", "", ("--session",), "until the bottle ends"),
        ("o", "", ("--once",), "once"),
        ("m", "", ("--for", "30m"), "for 30 minutes"),
        ("f", " 2h ", ("--for", "2h"), "for 2h"),
        ("u", "3", ("--uses", "3"), "3 uses"),
        ("u", "1", ("--uses", "1"), "1 use"),
        ("A", "", ("--always",), "always"),
    ],
)
def test_every_choice_is_one_of_the_command_lines(
    key: str, value: str, options: tuple[str, ...], said: str
) -> None:
    from claude_bottle.cli.proposals import _refuse_options, _terms

    choice = choice_of(key)
    assert choice is not None
    chosen = taken(choice, value) if choice.asks else Chosen(choice)
    assert chosen.bounds().options == options
    assert chosen.said() == said
    given_to_it = parsed(options)
    _refuse_options(given_to_it)  # type: ignore[arg-type]
    _terms(given_to_it)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("f", ""),
        ("f", "2w"),
        ("f", "0m"),
        ("f", "367d"),
        ("u", ""),
        ("u", "0"),
        ("u", "-1"),
        ("u", "1000001"),
    ],
)
def test_what_the_command_line_refuses_is_no_choice(key: str, value: str) -> None:
    choice = choice_of(key)
    assert choice is not None
    with pytest.raises(ValueError):
        taken(choice, value)


def test_the_choices_have_a_key_each_and_the_first_is_the_safe_one() -> None:
    assert len({choice.key for choice in CHOICES}) == len(CHOICES)
    assert all(choice.key in string.ascii_letters and choice.key not in "yjkgGnN" for choice in CHOICES)
    assert Chosen().bounds().options == ("--session",)
    assert all(named(choice, Chosen()) for choice in CHOICES)


def test_only_our_own_marks_are_grave() -> None:
    lines = [
        ("it says", "| !! forged"),
        ("", "!! forged"),
        ("look", "!! real"),
        ("", "-  small"),
        ("", "!! too"),
        ("tried", "!! forged"),
    ]
    assert grave_of(lines) == ["!! real", "!! too"]
    assert style_of("it says", "!! forged") == ""
    assert style_of("look", "!! real") == "bold red"
    assert style_of("would add", "+ a") == "green"


def test_a_refusal_is_grave() -> None:
    assert grave_of([("refused", "private address")]) == ["!! refused: private address"]


def test_the_search_goes_round_the_end_in_both_directions() -> None:
    lines = [plain(text) for text in ("One", "two", "ONE")]
    wanted = pattern_of("one")
    assert [line_with(lines, wanted, start, 1) for start in range(4)] == [0, 2, 2, 0]
    assert [line_with(lines, wanted, start, -1) for start in (1, -1)] == [0, 2]
    assert line_with(lines, pattern_of("."), 0, 1) is None
    assert line_with([], wanted, 0, 1) is None


def test_what_was_found_is_marked_and_the_line_itself_is_left_alone() -> None:
    line = plain("a [b] A")
    assert [span.start for span in marked(line, pattern_of("a")).spans] == [0, 6]
    assert line.spans == []


def test_a_difference_has_the_styles_of_its_signs() -> None:
    lines = list(diff_lines(DIFF))
    assert [str(line.style) for line in lines] == ["bold", "bold", "bold", "cyan", "", "red", "green"]
    assert [line.plain for line in lines] == DIFF.replace("\t", "    ").split("\n")


def test_keys_that_do_not_fit_side_by_side_take_another_row() -> None:
    hints = [Hint("a", "a", "does"), Hint("b", "b", "does"), Hint("c", "c", "does")]
    rows = placed(hints, 16)
    assert [[spot.key for spot in row] for row in rows] == [["a", "b"], ["c"]]
    assert [(spot.start, spot.end) for spot in rows[0]] == [(0, 6), (9, 15)]
