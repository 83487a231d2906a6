"""The frames: any cutting of the bytes gives the same ones, and what nobody honest sends is no frame."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.remote import frames
from claude_bottle.backend.remote.frames import MAX_PAYLOAD, BadFrame, Decoder, frame, numbered, numbers

KINDS = frozenset((frames.OUT, frames.ERR, frames.CREDIT, frames.STATUS))
FRAMES = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.one_of(st.binary(max_size=40), st.just(b"a" * MAX_PAYLOAD))),
    max_size=6,
)


def decode(*pieces: bytes) -> list[tuple[bytes, bytes]]:
    decoder = Decoder(KINDS)
    return [found for piece in pieces for found in decoder.feed(piece)]


@given(FRAMES, st.lists(st.integers(0, 200), max_size=8))
def test_any_cutting_gives_the_same_frames(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in sent)
    places = sorted({0, len(stream), *(cut * len(stream) // 200 for cut in cuts)})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert decode(*pieces) == sent


@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.binary(max_size=9)), max_size=4))
def test_byte_for_byte_gives_the_same_frames(sent: list[tuple[bytes, bytes]]) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in sent)
    assert decode(*(bytes([byte]) for byte in stream)) == sent


def test_a_frame_is_a_letter_a_length_and_its_bytes() -> None:
    """What a bottle of an earlier release speaks: the two ends may be of different age."""
    assert frame(b"o", b"abc") == b"o\0\0\0\x03abc"
    assert frame(b"z") == b"z\0\0\0\0"
    assert numbered(b"w", 24, 80) == b"w\0\0\0\x08\0\0\0\x18\0\0\0\x50"


@given(st.binary(min_size=5, max_size=5).filter(lambda head: head[:1] not in KINDS), st.binary(max_size=9))
def test_an_unknown_kind_is_refused_as_soon_as_its_head_is_there(head: bytes, rest: bytes) -> None:
    with pytest.raises(BadFrame):
        decode(head + rest)


@given(st.sampled_from(sorted(KINDS)), st.integers(MAX_PAYLOAD + 1, (1 << 32) - 1))
def test_a_length_beyond_the_bound_is_refused_before_its_bytes_come(kind: bytes, length: int) -> None:
    with pytest.raises(BadFrame):
        decode(kind + struct.pack(">I", length))


def test_a_kind_of_the_other_direction_is_unknown() -> None:
    for kind in (frames.DATA, frames.END, frames.SIGNAL, frames.WINDOW):
        with pytest.raises(BadFrame):
            decode(frame(kind, b"1234"))


def test_good_frames_before_a_bad_one_are_had_first() -> None:
    found = []
    with pytest.raises(BadFrame):
        for item in Decoder(KINDS).feed(frame(b"o", b"good") + b"?????"):
            found.append(item)
    assert found == [(b"o", b"good")]


@given(st.binary(max_size=100))
def test_half_a_frame_is_none(data: bytes) -> None:
    whole = frame(b"o", data)
    for end in range(len(whole)):
        assert decode(whole[:end]) == []


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=3))
def test_numbers_survive(values: list[int]) -> None:
    ((_, payload),) = decode(numbered(frames.CREDIT, *values))
    assert numbers(payload, len(values)) == tuple(values)


@given(st.binary(max_size=12), st.integers(1, 2))
def test_numbers_of_another_size_are_refused(payload: bytes, count: int) -> None:
    if len(payload) == 4 * count:
        assert len(numbers(payload, count)) == count
        return
    with pytest.raises(BadFrame):
        numbers(payload, count)


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_a_number_that_does_not_fit_is_a_mistake_of_the_caller(number: int) -> None:
    with pytest.raises(struct.error):
        numbered(frames.SIGNAL, number)
