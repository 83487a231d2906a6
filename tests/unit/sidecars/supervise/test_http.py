"""The strict reader of the few forms of HTTP that MCP needs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.sidecars.supervise import http
from claude_bottle.sidecars.supervise.http import HttpError, Reader, Request

PORT = 9100
HEAD = "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:9100\r\nContent-Type: application/json\r\n"


def read(data: bytes, port: int = PORT) -> Request | None:
    reader = Reader(port)
    reader.feed(data)
    return reader.next()


def post(body: bytes = b"{}", more: str = "") -> bytes:
    return f"{HEAD}Content-Length: {len(body)}\r\n{more}\r\n".encode() + body


def refused(data: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        read(data)
    http.response(caught.value.status, {}, keep=False)  # it has a name
    return caught.value.status


def test_a_request_with_all_that_counts() -> None:
    more = (
        "Accept: application/json, text/event-stream\r\nMcp-Session-Id: abc\r\n"
        "MCP-Protocol-Version: 2025-11-25\r\nOrigin: http://127.0.0.1:9100\r\nX-Other: 1\r\nX-Other: 2\r\n"
    )
    expected = Request("POST", True, b"{}", "abc", "2025-11-25", "", True)
    assert read(post(more=more)) == expected


@pytest.mark.parametrize("host", ["127.0.0.1:9100", "localhost:9100", "LOCALHOST:9100"])
def test_this_server_by_its_names(host: str) -> None:
    assert read(post().replace(b"127.0.0.1:9100", host.encode())) is not None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9100",
        "127.0.0.1",
        "127.0.0.1:80",
        "",
        "127.0.0.1:9100@evil",
        "[::1]:9100",
    ],
)
def test_a_name_that_was_rebound_is_not_this_server(host: str) -> None:
    assert refused(post().replace(b"127.0.0.1:9100", host.encode())) == 421


def test_a_request_without_a_host() -> None:
    assert refused(post().replace(b"Host: 127.0.0.1:9100\r\n", b"")) == 421


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:9100",
        "null",
        "https://127.0.0.1:9100",
        "http://127.0.0.1:8",
        "",
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    assert refused(post(more=f"Origin: {origin}\r\n")) == 403


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\n", 400),
        (b"\x00", 400),
        (b"POST /mcp HTTP/2.0\r\n\r\n", 400),
        (post().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (b"POST /mcp HTTP/1.1\nHost: 127.0.0.1:9100\n\n", 400),
        (b"post /mcp HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (post().replace(b"/mcp", b"/mcp?x"), 404),
        (post().replace(b"/mcp", b"http://127.0.0.1:9100/mcp"), 404),
        (post().replace(b"POST", b"PUT"), 405),
        (post(more="Transfer-Encoding: chunked\r\n"), 411),
        (post().replace(b"Content-Length: 2\r\n", b""), 411),
        (post(more="Content-Length: 2\r\n"), 400),
        (post(more="Host: 127.0.0.1:9100\r\n"), 400),
        (post(more="Expect: 100-continue\r\n"), 417),
        (post().replace(b"Length: 2", b"Length: +2"), 400),
        (post().replace(b"Length: 2", b"Length: 0x2"), 400),
        (post().replace(b"Length: 2", b"Length: 2, 2"), 400),
        (post().replace(b"Length: 2", b"Length: 65537"), 413),
        (post().replace(b"Length: 2", b"Length: 10485760"), 413),
        (post().replace(b"application/json", b"text/plain"), 415),
        (post(more="Bad Header: x\r\n"), 400),
        (post(more=" folded\r\n"), 400),
        (post(more="Mcp-Session-Id: a b\r\n"), 400),
        (post(more="X: y\r\n" * 80), 431),
        (b"GET /" + b"a" * 9000, 431),
        (b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1:9100\r\nContent-Length: 1\r\n\r\nx", 400),
    ],
)
def test_what_is_not_taken(data: bytes, status: int) -> None:
    assert refused(data) == status


def test_requests_one_after_the_other_cut_anywhere() -> None:
    data = post(b'{"a": 1}') + post(b"[]") + b"GET /mcp HTTP/1.1\r\nHost: localhost:9100\r\n\r\n"
    for size in (1, 2, 3, 7, 64, len(data)):
        reader, found = Reader(PORT), []
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
            while (request := reader.next()) is not None:
                found.append((request.method, request.body))
        assert found == [("POST", b'{"a": 1}'), ("POST", b"[]"), ("GET", b"")]
        assert reader.idle


def test_one_that_closes_asks_once() -> None:
    assert read(post(more="Connection: close\r\n")) == Request("POST", False, b"{}")


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"\r\n", b"POST /mcp HTTP/1.1\r\n", post()]), max_size=12
    )
)
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_request_an_error_or_not_whole_yet(pieces: list[bytes]) -> None:
    reader = Reader(PORT)
    for piece in pieces:
        reader.feed(piece)
        try:
            while reader.next() is not None:
                pass
        except HttpError as error:
            assert http.response(error.status, {"a": 1}, keep=False).startswith(b"HTTP/1.1 4")
            return


def test_events_are_chunks_that_end() -> None:
    told = http.event({"a": "line\nbreak"}, "p-1/31")
    size, _, rest = told.partition(b"\r\n")
    assert len(rest) == int(size, 16) + 2
    assert rest == b'id: p-1/31\nevent: message\ndata: {"a": "line\\nbreak"}\n\n\r\n'
    assert http.comment("x") == b"5\r\n: x\n\n\r\n"
    assert http.STREAM_END == b"0\r\n\r\n"


def test_an_answer_without_content_has_no_length() -> None:
    assert b"Content-Length" not in http.response(204, keep=True)
    assert b"Content-Length: 0" in http.response(202, keep=True)
    assert b"Allow: POST, GET, DELETE\r\n" in http.response(405, {}, keep=False)
