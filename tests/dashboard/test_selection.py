"""The cursor belongs to a row, whatever happens to the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.dashboard.selection import kept, moved

KEYS = st.lists(st.text("abcdefgh", min_size=1, max_size=2), unique=True, max_size=8)


@pytest.mark.parametrize(
    ("before", "after", "selected", "then"),
    [
        ("abc", "abc", "b", "b"),
        ("abc", "xabc", "b", "b"),  # rows came before it
        ("abc", "cba", "b", "b"),  # they moved
        ("abc", "ac", "b", "c"),  # the one that fills the row
        ("abc", "ab", "c", "b"),  # the new last
        ("abcd", "ad", "b", "d"),  # the next of those that are left
        ("a", "", "a", None),
        ("", "ab", None, "a"),
        ("abc", "xy", "b", "y"),  # none of those below is left
    ],
)
def test_the_cursor_stays_with_its_row_or_goes_to_the_one_in_its_place(before, after, selected, then) -> None:
    assert kept(list(before), list(after), selected) == then


@given(KEYS, KEYS)
def test_what_is_selected_is_always_one_of_the_rows(before: list[str], after: list[str]) -> None:
    for selected in (None, *before):
        found = kept(before, after, selected)
        assert (found in after) if after else found is None
        assert selected not in after or found == selected


def test_moving_ends_at_the_ends() -> None:
    rows = list("abc")
    assert moved(rows, "a", 1) == "b"
    assert moved(rows, "c", 1) == "c"
    assert moved(rows, "a", -1) == "a"
    assert moved(rows, "b", 1_000_000) == "c"
    assert moved(rows, "gone", 0) == "a"
    assert moved([], None, 1) is None
