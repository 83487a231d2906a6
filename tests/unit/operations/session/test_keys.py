from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.operations.session.keys import DETACH, SUSPEND, Keys


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"hello\r", (b"hello\r", b"")),
        (b"\x03\x04\x1b", (b"\x03\x04\x1b", b"")),
        (b"\x1c", (b"", DETACH)),
        (b"ab\x1ccd", (b"ab", DETACH)),
        (b"ab\x1acd", (b"ab", SUSPEND)),
        (b"\x1b[200~a\x1c\x1ab\x1b[201~", (b"\x1b[200~a\x1c\x1ab\x1b[201~", b"")),
        (b"\x1b[200~a\x1b[201~\x1cb", (b"\x1b[200~a\x1b[201~", DETACH)),
    ],
)
def test_the_two_keys_outside_of_a_paste(data: bytes, expected: tuple[bytes, bytes]) -> None:
    assert Keys().feed(data) == expected


pieces = st.lists(
    st.sampled_from(
        [b"a", b"\x1b", b"[", b"2", b"0", b"1", b"~", b"\x1b[200~", b"\x1b[201~", b"\x1c", b"\x1a"]
    ),
    max_size=40,
)


def typed(keys: Keys, data: list[bytes]) -> tuple[bytes, bytes]:
    sent = b""
    for piece in data:
        more, key = keys.feed(piece)
        sent += more
        if key:
            return sent, key
    return sent, b""


@settings(deadline=None)
@given(pieces)
def test_pieces_make_no_difference_and_nothing_waits(data: list[bytes]) -> None:
    whole = b"".join(data)
    singles = [whole[at : at + 1] for at in range(len(whole))]
    sent, key = typed(Keys(), singles)
    assert (sent, key) == typed(Keys(), data) == Keys().feed(whole)
    assert whole.startswith(sent + key)
    assert key or sent == whole
