"""Requests made to be read in two ways. What was judged is, byte for byte, what the server gets."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

pytestmark = pytest.mark.needs("envoy")
EnvoyRig = Any  # the class is in conftest.py, which cannot be imported

HOST = b"Host: key.example.org\r\n"


def refused(envoy: EnvoyRig, sni: str | None) -> bool:
    try:
        with envoy.tls(sni, check_name=False) as sock:
            sock.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n")
            return bool(envoy.read_reply(sock).status == 0)
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.parametrize(
    "sni",
    [
        "other.example.org",
        "xkey.example.org",
        "key.example.org.evil.test",
        "wild.example.org",
        "tunnel.example.org",
    ],
)
def test_a_foreign_server_name_is_closed(envoy: EnvoyRig, sni: str) -> None:
    assert refused(envoy, sni)
    assert envoy.authz.events == []


def test_a_missing_server_name_is_closed(envoy: EnvoyRig) -> None:
    assert refused(envoy, None)
    assert envoy.authz.events == []


@pytest.mark.parametrize(
    "raw", [b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05\x09hello"]
)
def test_what_is_not_tls_is_closed(envoy: EnvoyRig, raw: bytes) -> None:
    with envoy.connect() as sock:
        sock.sendall(raw)
        try:
            answer = sock.recv(4096)
        except ConnectionError:
            answer = b""
    assert b"HTTP" not in answer
    assert envoy.internet.connections == []


@pytest.mark.parametrize(
    "host",
    [
        "open.example.org",
        "other.example.org",
        "KEY.example.org",
        "key.example.org.",
        "key.example.org:443:443",
        "open.example.org,key.example.org",
        "user@key.example.org",
        "key.example.org@open.example.org",
        "key.example.org#",
        "[::1]",
        "",
    ],
)
def test_a_host_that_is_not_the_server_name_is_refused(envoy: EnvoyRig, host: str) -> None:
    reply = envoy.send("key.example.org", f"GET /v1/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert reply.status in (0, 400, 403, 421)
    assert envoy.internet.connections == []
    assert not [event for event in envoy.authz.events if event["verdict"] == "allow"]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET https://open.example.org/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http://127.0.0.1:9901/ HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v1/x HTTP/1.1\r\n" + HOST + b"Host: open.example.org\r\n\r\n",
        b"CONNECT key.example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v1/x HTTP/1.0\r\n" + HOST + b"\r\n",
        b"GET /v1/x HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET /v1/x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET v1/x HTTP/1.1\r\n" + HOST + b"\r\n",
        b"TRACE /v1/x HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_odd_request_lines_go_nowhere(envoy: EnvoyRig, raw: bytes) -> None:
    reply = envoy.send("key.example.org", raw)

    assert reply.status in (0, 400, 403, 404, 421, 426)
    assert envoy.internet.connections == []


POST = b"POST /v1/x HTTP/1.1\r\n"
SECOND = b"GET /v2/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        POST + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
        POST + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SECOND,
        POST + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        POST + HOST + b"Content-Length: 4, 4\r\n\r\nabcd",
        POST + HOST + b"Content-Length: +4\r\n\r\nabcd",
        POST + HOST + b"Content-Length: 0x4\r\n\r\nabcd",
        POST + HOST + b"Content-Length: -1\r\n\r\nabcd",
        POST + HOST + b"Content-Length : 4\r\n\r\nabcd",
        POST + HOST + b"Content_Length: 4\r\n\r\nabcd",
        POST + HOST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n4\nabcd\n0\n\n",
        POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n4;a=\rb\r\nabcd\r\n0\r\n\r\n",
        POST + HOST + b"X: a\x00b\r\n\r\n",
        POST + HOST + b": empty\r\n\r\n",
        b"GET /v1/x y HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_two_ways_to_frame_a_message_are_refused(envoy: EnvoyRig, raw: bytes) -> None:
    reply = envoy.send("key.example.org", raw, "POST")

    assert (reply.status, envoy.internet.requests) in ((0, []), (400, []), (403, []), (501, []))


@pytest.mark.parametrize(
    ("raw", "framing"),
    [
        (b"POST /v1/x HTTP/1.1\nHost: key.example.org\n\n", "content-length"),
        (POST + HOST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer-encoding"),
        (POST + HOST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n", "content-length"),
        (POST + HOST + b"X: a\r\n folded: b\r\n\r\n", "content-length"),
        (b"POST  /v1/x\tHTTP/1.1\r\n" + HOST + b"\r\n", "content-length"),
        (b"POST\r/v1/x HTTP/1.1\r\n" + HOST + b"\r\n", "content-length"),
    ],
)
def test_what_envoy_reads_leniently_it_writes_anew(envoy: EnvoyRig, raw: bytes, framing: str) -> None:
    """Envoy takes a bare LF for a line's end. Nobody before it reads HTTP; what it sends has one reading."""
    assert envoy.send("key.example.org", raw, "POST").status in (200, 400)

    for request in envoy.internet.requests:
        assert request.request_line == "POST /v1/x HTTP/1.1"
        assert all(b"\r" not in line and b"\n" not in line for line in request.head.split(b"\r\n"))
        assert {"content-length", "transfer-encoding"} & set(request.headers) == {framing}


def test_a_pipelined_request_is_judged_for_itself(envoy: EnvoyRig) -> None:
    with envoy.tls("key.example.org") as sock:
        sock.sendall(b"GET /v1/x HTTP/1.1\r\n" + HOST + b"\r\n" + SECOND)
        assert envoy.read_reply(sock).status == 200
        assert envoy.read_reply(sock).reason == "path-not-allowed"
    assert [request.path for request in envoy.internet.requests] == ["/v1/x"]


def test_bytes_after_a_body_are_the_next_request(envoy: EnvoyRig) -> None:
    with envoy.tls("key.example.org") as sock:
        sock.sendall(POST + HOST + b"Content-Length: 4\r\n\r\nabcd" + SECOND)
        assert envoy.read_reply(sock).status == 200
        assert envoy.read_reply(sock).reason == "path-not-allowed"
    assert [request.body for request in envoy.internet.requests] == [b"abcd"]


PATHS = [
    "/public/../secret",
    "/public/./../secret",
    "/public/%2e%2e/secret",
    "/public/%2E%2e/secret",
    "/public/.%2e/secret",
    "/public/%252e%252e/secret",
    "/public/..%2fsecret",
    "/public%2f..%2fsecret",
    "/public/..%5csecret",
    "/public\\..\\secret",
    "/public/..\\secret",
    "//public/x",
    "/public//x",
    "/public//../../secret",
    "///secret",
    "/public/..;/secret",
    "/public/..;x=1/secret",
    "/public;x/../secret",
    "/public/x;../../secret",
    "/public/%00/secret",
    "/public/x%00",
    "/public/x\x00",
    "/public/x\x7f",
    "/public/x\xe9",
    "/public/%c0%ae%c0%ae/secret",
    "/public/%ff",
    "/public/%",
    "/public/%zz",
    "/public/%u002e",
    "/public/x#/../secret",
    "/public/x?a=/../secret",
    "/public/x?a=%2f..%2f",
    "/public/x%3fa=b",
    "/public/x%23frag",
    "/%70ublic/x",
    "/publi%63/x",
    "/public/%7euser",
    "/public/a%20b",
    "/public/a+b",
    "/public/{x}",
    '/public/"x"',
    "/public/<x>",
    "/public/x|y^z`",
    "/public/x'",
    "/public/..",
    "/public/../",
    "/public/.",
    "/public/...",
    "/PUBLIC/x",
    "/public",
    "/public?x",
    "/publicx",
    "/secret/../public/x",
    "?/public",
    "/public/\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"),
]


@pytest.mark.parametrize("path", PATHS)
def test_the_path_that_is_judged_is_the_path_that_is_sent(envoy: EnvoyRig, path: str) -> None:
    envoy.get("public.example.org", path)

    allowed = [str(event["path"]) for event in envoy.authz.events if event["verdict"] == "allow"]
    sent = [request.path for request in envoy.internet.requests]
    assert sent == allowed
    for target in sent:
        bare = target.partition("?")[0]
        assert bare == "/public" or bare.startswith("/public/")
        assert ".." not in bare.split("/")
        assert "//" not in bare
        assert "\\" not in bare


def test_dot_segments_are_resolved_before_the_path_is_judged(envoy: EnvoyRig) -> None:
    for path in ("/public/../secret", "/public/%2e%2e/secret", "/public/x/../../secret"):
        assert envoy.get("public.example.org", path).reason == "path-not-allowed"
    assert [event["path"] for event in envoy.authz.events] == ["/secret"] * 3


def test_an_encoded_slash_is_refused_before_anything_is_judged(envoy: EnvoyRig) -> None:
    for path in ("/public/a%2fb", "/public/a%5Cb"):
        assert envoy.get("public.example.org", path).status == 400
    assert envoy.authz.events == []


def test_some_of_these_paths_do_pass(envoy: EnvoyRig) -> None:
    """Else the test above would prove nothing."""
    for path in ("/public/x?a=/../secret", "/public/a%20b", "/public/%7euser", "/public/...", "/public"):
        assert envoy.get("public.example.org", path).status == 200


def test_a_head_that_is_too_large_is_refused(envoy: EnvoyRig) -> None:
    assert envoy.get("key.example.org", "/v1/x", "X: " + "a" * 70_000).status in (0, 431)
    assert envoy.get("key.example.org", "/v1/x", *[f"X{n}: a" for n in range(150)]).status in (0, 431)
    assert envoy.get("key.example.org", "/v1/" + "a" * 59_000).status in (200, 403)
    assert len(envoy.internet.requests) <= 1
