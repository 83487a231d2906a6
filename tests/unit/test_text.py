"""The boundary between hostile text and the operator's screen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.text import plural, shown, shown_lines

HOSTILE = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Mn")),
        st.sampled_from("\x1b\x9b\x07\r\n\t\u202e\u2066\u200b\ufeff\u2028\u3164\u115f\u2800\U000e0041[];m\\"),
    ),
    max_size=300,
)
# What a terminal acts upon, what reorders a line, and what a reader cannot see.
CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
UNSEEN = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)}
BIDIRECTIONAL = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


def is_plain(char: str) -> bool:
    return (
        unicodedata.category(char) not in CATEGORIES
        and unicodedata.bidirectional(char) not in BIDIRECTIONAL
        and ord(char) not in UNSEEN
        and (char == " " or unicodedata.category(char) != "Zs")
    )


@given(HOSTILE)
def test_nothing_hidden_survives(text: str) -> None:
    assert [hex(ord(char)) for char in shown(text, 5000) if not is_plain(char)] == []


@given(HOSTILE, st.integers(min_value=1, max_value=400))
def test_it_is_one_line_of_at_most_so_many_characters(text: str, limit: int) -> None:
    line = shown(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


@given(HOSTILE, st.integers(min_value=1, max_value=400), st.integers(min_value=1, max_value=5))
def test_lines_are_as_clean_and_bounded(text: str, limit: int, lines: int) -> None:
    found = shown_lines(text, limit, lines)
    kept = found.split("\n")
    assert len(kept) <= lines
    assert all(len(line) <= limit and all(map(is_plain, line)) for line in kept)


@given(
    st.text(
        alphabet=st.characters(categories=("L", "N", "P", "S"), exclude_characters="".join(map(chr, UNSEEN)))
    )
)
def test_what_can_be_seen_is_kept(text: str) -> None:
    assert shown(text, 5000) == text


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[2J\x1b]2;title\x07", "\\x1b[2J\\x1b]2;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\nc\td", "a\\x0db\\x0ac\\x09d"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("git\u200bhub", "git\\u200bhub"),
        ("api\u3164", "api\\u3164"),
        ("non\u00a0breaking", "non\\xa0breaking"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("half\ud83d", "half\\ud83d"),
        ("héllo ✓ 日本", "héllo ✓ 日本"),
    ],
)
def test_it_stands_as_its_number(hostile: str, harmless: str) -> None:
    assert shown(hostile) == harmless
    shown(hostile).encode()  # can be printed


def test_what_was_cut_is_marked() -> None:
    assert shown("x" * 200) == "x" * 200
    assert shown("x" * 201) == "x" * 199 + "…"
    assert shown("\x1b" * 200) == "\\x1b" * 49 + "\\x1" + "…"


def test_anything_can_be_shown() -> None:
    assert shown(OSError(2, "gone\x1b")) == "[Errno 2] gone\\x1b"


def test_lines_keep_their_breaks_and_indents() -> None:
    assert shown_lines("a\n\tb\x1b\n") == "a\n    b\\x1b\n"


def test_plural() -> None:
    assert (plural(0, "row"), plural(1, "row"), plural(2, "row")) == ("0 rows", "1 row", "2 rows")
