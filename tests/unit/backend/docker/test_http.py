"""HTTP as an engine speaks it: an answer is whole and within its limits, or it is none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_bottle.backend.docker.http import Reply, WireError, as_json, render
from tests.unit.backend.docker.engines import CHUNKED_END, answer, chunked

LIMIT = 1 << 20
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire:
    """Hands out what comes, in the pieces in which it comes, and counts it."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.taken = 0

    def receive(self, count: int) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:count], self._rest[count:]
        self.taken += len(data)
        return data


def reply(*pieces: bytes) -> Reply:
    return Reply(Wire(pieces).receive)


def body(*pieces: bytes, limit: int = LIMIT) -> bytes:
    return reply(*pieces).body(limit)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)
CHUNKS = st.lists(st.binary(min_size=1, max_size=400), max_size=8)


@given(CHUNKS, PLACES)
@example([b"0\r\n\r\n"], [])
@example([b"x" * 70000, b"y"], [3, 65536])
def test_a_body_is_the_same_however_it_is_said_and_in_whatever_pieces(
    chunks: list[bytes], places: list[int]
) -> None:
    whole = b"".join(chunks)
    for said in (chunked(*chunks), answer(whole), TO_THE_END + whole):
        assert body(*cut(said, places)) == whole
        assert body(*cut(said, places), limit=len(whole)) == whole
        if whole:
            with pytest.raises(WireError, match="longer"):
                body(*cut(said, places), limit=len(whole) - 1)


@pytest.mark.parametrize(
    "said",
    [answer(b'{"Id": "0"}'), chunked(b'{"Id": ', b'"0"}'), chunked(), answer(b"", "404 Not Found", "X: y")],
)
def test_an_answer_that_was_cut_off_is_none_wherever_the_cut_is(said: bytes) -> None:
    for place in range(len(said)):
        for pieces in ([said[:place]], [bytes([byte]) for byte in said[:place]]):
            with pytest.raises(WireError, match=r"cut off|no answer"):
                body(*pieces)
    body(said)


def test_a_head_that_was_cut_off_is_none_though_its_body_would_go_to_the_end() -> None:
    for place in range(len(TO_THE_END)):
        with pytest.raises(WireError, match=r"cut off|no answer"):
            body(TO_THE_END[:place])


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            " ",
            "200 OK",
            "HTTP/2 200 OK",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1  200 OK",
            "HTTP/1.1\t200 OK",
        ),
        *("HTTP/1.1 20", "HTTP/1.1 2000 OK", "HTTP/1.1 -20 OK", "HTTP/1.1 2\xb20 OK", "HTTP/1.1 +20 OK"),
        *("HTTP/1.1 200OK", "SSH-2.0-OpenSSH_9.2", "http/1.1 200 OK", "\0" * 40),
    ],
)
def test_what_does_not_begin_as_http_does_is_no_answer(line: str) -> None:
    with pytest.raises(WireError):
        body(line.encode("latin-1") + b"\r\nContent-Length: 0\r\n\r\n")


def test_a_status_needs_no_words() -> None:
    for line in ("HTTP/1.1 204", "HTTP/1.1 204 ", "HTTP/1.0 204 No Content"):
        found = reply(f"{line}\r\n\r\n".encode())
        assert (found.status, found.body(0)) == (204, b"")


def test_headers_are_found_in_any_case_and_without_their_spaces() -> None:
    found = reply(b"HTTP/1.1 200 OK\r\nAPI-Version:1.41\r\nX:  a: b \r\n\n")
    assert found.headers == {"api-version": "1.41", "x": "a: b"}


@pytest.mark.parametrize("line", [b"no colon", b" ", b"\0"])
def test_a_header_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(WireError, match="malformed"):
        reply(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize(
    "length",
    ["", "-1", "+5", "0x5", "5_0", "5,5", "5 5", "5.0", "1e3", "\xb2", "NaN", "9" * 5000],
    ids=lambda text: text[:9] or "none",
)
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(WireError):
        body(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode("latin-1") + b"x" * 100)


@pytest.mark.parametrize("length", ["6", str(1 << 20)])
def test_a_length_that_is_more_than_came_is_cut_off(length: str) -> None:
    with pytest.raises(WireError, match="cut off"):
        body(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nfive!".encode())


def test_what_comes_after_a_length_is_not_of_the_body() -> None:
    assert body(answer(b"five!") + b"more") == b"five!"
    assert body(answer(b"") + b"more") == b""


@pytest.mark.parametrize(
    "size",
    [
        *("", " ", ";x", "-1", "-0", "+5", "0x5", "0X5", "1_0", "5 5", "g", "\xb2", "\xa05", "\x1c5"),
        "-ffffffffffffffff",
    ],
    ids=repr,
)
def test_a_chunk_whose_length_is_no_number_is_refused(size: str) -> None:
    """`int` takes more than a number: a sign, a prefix, an underscore, other spaces."""
    with pytest.raises(WireError):
        body(CHUNKED + size.encode("latin-1") + b"\r\nfive!\r\n" + CHUNKED_END)


@pytest.mark.parametrize("size", ["fffff", "7fffffffffffffff", "f" * 5000])
def test_a_huge_chunk_is_refused_before_it_is_read(size: str) -> None:
    def endless() -> Iterable[bytes]:
        yield CHUNKED + size.encode() + b"\r\n"
        while True:
            yield b"x" * 4096

    wire = Wire(endless())
    with pytest.raises(WireError, match="longer"):
        Reply(wire.receive).body(1000)
    assert wire.taken < LIMIT


@pytest.mark.parametrize("size", ["5", "05", "00000005", "5;name=value", "5 ;x"])
def test_a_chunk_may_say_its_length_in_any_honest_way(size: str) -> None:
    assert body(CHUNKED + size.encode() + b"\r\nfive!\r\n000\r\nX: trailer\r\n\r\n") == b"five!"


@pytest.mark.parametrize("rest", [b"!\r\n", b"\n\r", b"five!", b"\n\n"])
def test_a_chunk_that_is_longer_than_it_said_is_refused(rest: bytes) -> None:
    with pytest.raises(WireError, match="longer than it said"):
        body(CHUNKED + b"5\r\nfive!" + rest + CHUNKED_END)


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity", "chunked, chunked", ""])
def test_a_coding_that_is_not_known_is_refused(coding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\nContent-Length: 5\r\n\r\n"
    with pytest.raises(WireError):
        body(head.encode() + b"five!")


ENDLESS = {
    "a line": (b"", b"x" * 1000),
    "a first line": (b"HTTP/1.1 200 ", b"x" * 1000),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Name: value\r\n"),
    "headers of no size": (b"HTTP/1.1 200 OK\r\n", b":\r\n"),
    "a length": (CHUNKED, b"0" * 1000),
    "a chunk's name": (CHUNKED, b"5;" + b"x" * 1000),
    "trailers": (CHUNKED + b"0\r\n", b"X-Name: value\r\n"),
    "small chunks": (CHUNKED, b"1\r\nx\r\n"),
    "a body": (TO_THE_END, b"x" * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_given_up(name: str) -> None:
    """At a limit, and not when the memory is full."""
    begin, more = ENDLESS[name]

    def endless() -> Iterable[bytes]:
        yield begin
        for _ in range(8 * LIMIT // len(more)):
            yield more

    wire = Wire(endless())
    with pytest.raises(WireError, match=r"longer|no end|malformed"):
        Reply(wire.receive).body(1000)
    assert wire.taken < LIMIT


@given(st.binary(max_size=300), PLACES)
def test_nothing_behind_a_head_is_lost(early: bytes, places: list[int]) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\n"
    wire = Wire(cut(head + early, places))
    found = Reply(wire.receive)
    later = b""
    while data := wire.receive(1000):
        later += data
    assert found.rest() + later == early
    assert found.rest() == b""


def test_a_request_is_what_was_meant_and_says_how_long_it_is() -> None:
    headers, content = as_json({"Cmd": ["a", "\r\nX: y"], "é": None})
    said = render("POST", "/v1.41/x?name=a", headers, content)
    head, _, rest = said.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:2] == [b"POST /v1.41/x?name=a HTTP/1.1", b"Host: engine"]
    assert lines[2:] == [b"Content-Type: application/json", b"Content-Length: %d" % len(rest)]
    assert json.loads(rest) == {"Cmd": ["a", "\r\nX: y"], "é": None}
    assert render("GET", "/_ping", {}).endswith(b"\r\nContent-Length: 0\r\n\r\n")
    assert b"Content-Length" not in render("PUT", "/x", {"Transfer-Encoding": "chunked"})
    assert as_json(None) == ({}, b"")
    assert as_json({})[1] == b"{}"


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("text", ["a\r\nX: y", "a\rb", "a\nb", "\n", "a\r\n\r\nGET / HTTP/1.1"])
def test_no_line_break_gets_into_a_head(place: int, text: str) -> None:
    words = ["GET", "/x", "X-Name", "value"]
    words[place] = text
    with pytest.raises(ValueError, match="line break"):
        render(words[0], words[1], {words[2]: words[3]})
