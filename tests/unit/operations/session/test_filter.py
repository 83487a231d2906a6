"""What may reach the operator's terminal, and how it is given back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.operations.session.filter import Filter

CLAUDE = [
    b"\x1b7\x1b[r\x1b8\x1b[?25h\x1b[?2004h\x1b[?2031h\x1b[?1004h",
    b"\x1b[?1049h\x1b[2J\x1b[H\x1b[?1000h\x1b[?1002h\x1b[?1003h\x1b[?1006h\x1b[?25l",
    b"\r\x1b[1B\x1b[38;2;215;119;87m \xe2\x96\x90\x1b[48;2;0;0;0m\xe2\x96\x9b\x1b[12G\x1b[39m\x1b[49m\x1b[1mClaude",
    b"\x1b[30;1H\x1b[28;3H\x1b[K\x1b[80C\x1b[7m \x1b[27m\x1b[38:2::1:2:3m",
    b"\x1b(B\x0f\x1b[?1016l\x1b[?7h\x1b[2m\x1b[22m\x1b[m\r\n\x1b[?2026h\x1b[?2026l\x1b[3J\x07",
]
HOSTILE = [
    pytest.param(b"\x1b]52;c;b3duZWQ=\x07", id="clipboard"),
    pytest.param(b"\x1b]52;c;?\x1b\\", id="clipboard-read"),
    pytest.param(b"\x1b]0;title\x07", id="title"),
    pytest.param(b"\x1bktitle\x1b\\", id="screen-title"),
    pytest.param(b"\x1b]8;;https://example.org/\x07", id="link"),
    pytest.param(b"\x1b]11;?\x07", id="colour-query"),
    pytest.param(b"\x1b]4;1;#000\x07", id="palette"),
    pytest.param(b"\x1b]7501;?\x07", id="unknown-osc"),
    pytest.param(b"\x1b]1337;File=name=eA==:AAAA\x07", id="file"),
    pytest.param(b"\x1bP$qm\x1b\\", id="setting-query"),
    pytest.param(b"\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\", id="through-tmux"),
    pytest.param(b"\x1bPq#0;2;0;0;0#0~~\x1b\\", id="sixel"),
    pytest.param(b"\x1b_Gf=24;AAAA\x1b\\", id="kitty-image"),
    pytest.param(b"\x1b^message\x1b\\", id="privacy-message"),
    pytest.param(b"\x1bXstart\x1b\\", id="start-of-string"),
    pytest.param(b"\x1b[c", id="attributes"),
    pytest.param(b"\x1b[>0q", id="version"),
    pytest.param(b"\x1b[>c", id="secondary-attributes"),
    pytest.param(b"\x1b[6n", id="cursor-report"),
    pytest.param(b"\x1b[?6n", id="private-cursor-report"),
    pytest.param(b"\x1b[21t", id="title-report"),
    pytest.param(b"\x1b[8;1;1t", id="resize-window"),
    pytest.param(b"\x1b[?u", id="keyboard-query"),
    pytest.param(b"\x1b[>1u", id="keyboard-push"),
    pytest.param(b"\x1b[=1;1u", id="keyboard-set"),
    pytest.param(b"\x1b[>4;2m", id="other-keys"),
    pytest.param(b"\x1b[?2004$p", id="mode-query"),
    pytest.param(b"\x1b[1;1;1;1;1;1*y", id="screen-checksum"),
    pytest.param(b"\x1b[5i", id="printer"),
    pytest.param(b"\x1b[x", id="parameters"),
    pytest.param(b"\x1b[?1001h", id="mouse-that-waits"),
    pytest.param(b"\x1b[1;2;3;4;5T", id="mouse-that-waits-by-T"),
    pytest.param(b"\x1b[?9001h", id="windows-keys"),
    pytest.param(b"\x1b[?25;9001h", id="a-mode-among-others"),
    pytest.param(b"\x1b[2h", id="keyboard-lock"),
    pytest.param(b"\x1b[?1049r", id="restore-modes"),
    pytest.param(b"\x1b[99999b", id="endless-repeat"),
    pytest.param(b"\x1bZ", id="identify"),
    pytest.param(b"\x1bc", id="reset"),
    pytest.param(b"\x1b#8", id="test-pattern"),
    pytest.param(b"\x05", id="answerback"),
    pytest.param(b"\x0e", id="shift-out"),
    pytest.param(b"\x18\x1a\x7f\x00", id="controls"),
]
# What may stand in the output, written down a second time.
ALLOWED = re.compile(
    r"(?:[^\x00-\x06\x0e\x10-\x1f\x7f-\x9f]"
    r"|\x1b\[[0-9;:]*[@A-MPSXZ`abdefmrsu]|\x1b\[[0-9]?[0-9]?[0-9]?[0-9]?T"
    r"|\x1b\[\?[0-9;:]*[hl]|\x1b(?:[78=>DEM]|\([B0]))*"
)


@pytest.mark.parametrize("screen", CLAUDE)
def test_what_claude_draws_with_passes(screen: bytes) -> None:
    assert Filter().feed(screen) == screen


@pytest.mark.parametrize("sequence", HOSTILE)
def test_nothing_of_these_passes_and_the_text_around_them_does(sequence: bytes) -> None:
    assert Filter().feed(b"before" + sequence + b"\x1b[1mafter") == b"before\x1b[1mafter"


@pytest.mark.parametrize("sequence", HOSTILE)
def test_nor_in_pieces(sequence: bytes) -> None:
    found = Filter()
    whole = b"before" + sequence + b"\x1b[1mafter"
    assert b"".join(found.feed(whole[at : at + 1]) for at in range(len(whole))) == b"before\x1b[1mafter"


def test_the_eight_bit_forms_do_not_pass() -> None:
    assert Filter().feed("a\x9b6n\x9d52;c;eA==\x9cz".encode()) == b"a6n52;c;eA==z"
    assert b"\x9b" not in Filter().feed(b"\x9b6n\x90q\x9c").replace("\ufffd".encode(), b"")


def test_a_string_without_an_end_holds_nothing_in_memory_and_ends_at_last() -> None:
    found = Filter()
    for _ in range(100):
        assert found.feed(b"\x1b]52;c;" + b"A" * 10_000) == b""
    assert found.feed(b"\x07seen") == b"seen"
    assert len(found._held) == 0


def test_a_character_or_a_sequence_is_never_cut() -> None:
    found = Filter()
    assert found.feed("é".encode()[:1]) == b""
    assert found.feed("é".encode()[1:] + b"\x1b[3") == "é".encode()
    assert found.feed(b"1m") == b"\x1b[31m"


noise = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x07", b"\x1b\\", b"?", b";", b"1049h"]),
        st.sampled_from([b"0" * 200, b"\xc2\x9b", b"c", b"n", b"\x1b[?25l", b"$", b" q"]),
        st.sampled_from([param.values[0] for param in HOSTILE]),
    ),
    max_size=30,
).map(b"".join)


@settings(deadline=None)
@given(noise)
def test_whatever_comes_out_is_on_the_list_and_passes_again(data: bytes) -> None:
    shown = Filter().feed(data)
    assert ALLOWED.fullmatch(shown.decode())
    assert Filter().feed(shown) == shown


@settings(deadline=None)
@given(st.lists(noise, max_size=5))
def test_pieces_make_no_difference(pieces: list[bytes]) -> None:
    in_pieces, whole = Filter(), Filter()
    joined = b"".join(in_pieces.feed(piece) for piece in pieces)
    assert joined == whole.feed(b"".join(pieces))
    assert in_pieces.entering() == whole.entering()


def test_a_later_terminal_gets_the_modes_that_are_on_and_each_gives_them_back() -> None:
    found = Filter()
    found.feed(b"\x1b[?2004h\x1b[?1049h\x1b[?1003;1006h\x1b[?25l\x1b[?1004h\x1b[?1004l")
    assert found.entering() == b"\x1b[?1049h\x1b[?1003h\x1b[?1006h\x1b[?2004h\x1b[?25l"
    later = Filter()
    assert later.feed(found.entering()) == found.entering()
    assert later.leaving() == found.leaving()
    assert found.leaving().endswith(b"\x1b[?25h\x1b[?2004l\x1b[?1006l\x1b[?1003l\x1b[?1049l")


@settings(deadline=None)
@given(noise)
def test_leaving_takes_all_modes_back(data: bytes) -> None:
    found = Filter()
    found.feed(data + b"\x07\x1b\\")  # nothing is left open
    found.feed(found.leaving())
    assert found.entering() == b""


def test_the_ordinary_screen_stays_where_nobody_has_left_it() -> None:
    assert b"1049" not in Filter().leaving()  # as that would move the cursor
