"""A container's output as the engine wraps it: the same in whatever pieces it comes, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.docker.api import outputs
from claude_bottle.backend.docker.http import WireError


def wrapped(*pieces: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in pieces)


def pieces_of(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(0, 1 << 14), max_size=12),
    st.binary(max_size=7),
)
def test_output_is_the_same_in_whatever_pieces_it_comes(
    said: list[tuple[int, bytes]], places: list[int], rest: bytes
) -> None:
    buffer, found = bytearray(), []
    for piece in pieces_of(wrapped(*said) + rest, places):
        buffer += piece
        found += list(outputs(buffer))
    assert found == said
    assert buffer == rest


@pytest.mark.parametrize(
    "head",
    [
        *(b"\0\0\0\0\0\0\0\1", b"\3\0\0\0\0\0\0\1", b"\xff" * 8, b"HTTP/1.1", b'{"messag'),
        *(b"\1\1\0\0\0\0\0\1", b"\1\0\0\1\0\0\0\1", b"\1\0\0\0\xff\xff\xff\xff", b"\2\0\0\0\1\0\0\1"),
    ],
)
def test_output_in_another_form_is_refused(head: bytes) -> None:
    buffer = bytearray(wrapped((1, b"good")) + head)
    found = outputs(buffer)
    assert next(found) == (1, b"good")
    with pytest.raises(WireError):
        next(found)
