"""The same over HTTP/2, whose pseudo-headers can hold what no HTTP/1.1 request line can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.http2 import DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Fields, headers, opening

pytestmark = pytest.mark.needs("envoy")
EnvoyRig = Any  # the class is in conftest.py, which cannot be imported


def frames(sock: Any) -> Iterator[tuple[int, int, bytes]]:
    with sock.makefile("rb") as reader:
        while len(head := reader.read(9)) == 9:
            yield head[3], head[4], reader.read(int.from_bytes(head[:3], "big"))


def exchange(envoy: EnvoyRig, sni: str, fields: Fields) -> bytes:
    """Sends a request and waits for its end; the body that came back."""
    body = b""
    with envoy.tls(sni, alpn="h2") as sock:
        assert sock.selected_alpn_protocol() == "h2"
        sock.sendall(opening() + headers(fields, 1))
        try:
            for kind, flags, payload in frames(sock):
                body += payload if kind == DATA else b""
                if kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
                    break
        except ConnectionError:
            pass
    return body


def fields_of(**changes: bytes) -> Fields:
    named = {
        "method": b"GET",
        "scheme": b"https",
        "authority": b"key.example.org",
        "path": b"/v1/x",
        **changes,
    }
    return [(b":" + name.encode(), value) for name, value in named.items()]


def test_an_allowed_request_passes_and_its_placeholder_is_replaced(envoy: EnvoyRig) -> None:
    exchange(envoy, "key.example.org", [*fields_of(), (b"x-api-key", b"placeholder"), (b"x-api-key", b"two")])

    (request,) = envoy.internet.requests
    assert request.request_line == "GET /v1/x HTTP/1.1"
    assert request.headers["x-api-key"] == ["the-real-secret"]
    assert request.headers["host"] == ["key.example.org"]


@pytest.mark.parametrize(
    "authority", [b"open.example.org", b"key.example.org.", b"key.example.org:8443", b"a@key.example.org"]
)
def test_another_authority_is_refused(envoy: EnvoyRig, authority: bytes) -> None:
    exchange(envoy, "key.example.org", fields_of(authority=authority))

    assert envoy.internet.connections == []
    assert not [event for event in envoy.authz.events if event["verdict"] == "allow"]


def test_a_host_header_does_not_outdo_the_authority(envoy: EnvoyRig) -> None:
    exchange(envoy, "key.example.org", [*fields_of(), (b"host", b"open.example.org")])

    for request in envoy.internet.requests:
        assert (request.outlet, request.headers["host"]) == ("key.example.org:443", ["key.example.org"])


@pytest.mark.parametrize(
    "changes",
    [
        {"method": b"GET /v2/x HTTP/1.1\r\nA:"},
        {"method": b"GET /v2/x"},
        {"method": b""},
        {"method": b"CONNECT"},
        {"path": b"/v1/x HTTP/1.1\r\nHost: open.example.org\r\n\r\nGET /v2"},
        {"path": b"/v1/x y"},
        {"path": b"v1/x"},
        {"path": b"*"},
        {"path": b""},
        {"path": b"https://open.example.org/v1/x"},
        {"path": b"/v1/../v2"},
        {"path": b"/v1/%2e%2e/v2"},
        {"path": b"/v1/x\x00"},
        {"authority": b""},
        {"authority": b"key.example.org\r\nx: y"},
        {"protocol": b"websocket", "method": b"CONNECT"},
    ],
)
def test_pseudo_headers_that_would_be_misread_go_nowhere(envoy: EnvoyRig, changes: dict[str, bytes]) -> None:
    exchange(envoy, "key.example.org", fields_of(**changes))

    assert envoy.internet.connections == []
    assert not [event for event in envoy.authz.events if event["verdict"] == "allow"]


@pytest.mark.parametrize(
    "field",
    [
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"upgrade"),
        (b"content-length", b"5"),
        (b"x", b"a\r\ntransfer-encoding: chunked"),
        (b"x\r\nx-api-key", b"mine"),
        (b"X-Upper", b"a"),
        (b":path", b"/v2/other"),
        (b"x y", b"a"),
    ],
)
def test_fields_that_would_frame_another_request_are_refused(
    envoy: EnvoyRig, field: tuple[bytes, bytes]
) -> None:
    exchange(envoy, "key.example.org", [*fields_of(), field])

    for request in envoy.internet.requests:
        assert sorted(request.headers) == ["host", "x-api-key"]
        assert request.path == "/v1/x"


def test_a_denial_reaches_the_client(envoy: EnvoyRig) -> None:
    body = exchange(envoy, "key.example.org", fields_of(path=b"/v2/x"))

    assert b'"reason": "path-not-allowed"' in body
