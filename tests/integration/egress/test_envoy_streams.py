"""Large bodies, event streams and WebSockets pass without being held back."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

pytestmark = pytest.mark.needs("envoy")
EnvoyRig = Any  # the class is in conftest.py, which cannot be imported

THREE_MB = bytes(range(256)) * 12_288


def test_a_large_body_arrives_whole(envoy: EnvoyRig) -> None:
    reply = envoy.get("key.example.org", "/v1/x", method="POST", body=THREE_MB)

    assert json.loads(reply.body)["length"] == len(THREE_MB)
    assert envoy.internet.requests[0].body == THREE_MB


def test_a_chunked_body_arrives_whole(envoy: EnvoyRig) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: key.example.org\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(
        b"10000\r\n" + THREE_MB[at : at + 0x10000] + b"\r\n" for at in range(0, len(THREE_MB), 0x10000)
    )
    reply = envoy.send("key.example.org", head + chunks + b"0\r\n\r\n", "POST")

    assert reply.status == 200
    assert envoy.internet.requests[0].body == THREE_MB


def test_a_body_is_not_waited_for(envoy: EnvoyRig) -> None:
    """The request reaches the server while its body is still on the way."""
    with envoy.tls("key.example.org") as sock:
        sock.sendall(b"POST /v1/x HTTP/1.1\r\nHost: key.example.org\r\nContent-Length: 10\r\n\r\nfirst")
        envoy.wait_until(lambda: len(envoy.internet.requests) == 1, "the request")
        sock.sendall(b"third")
        assert envoy.read_reply(sock).status == 200


def test_events_arrive_one_by_one(envoy: EnvoyRig) -> None:
    """The server sends the next event only when the one before has been read here."""
    with envoy.tls("key.example.org") as sock:
        sock.sendall(b"GET /v1/sse HTTP/1.1\r\nHost: key.example.org\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.getheader("content-type") == "text/event-stream"
        for number in range(3):
            envoy.internet.next_event.release()
            assert response.readline() + response.readline() == b"data: %d\n\n" % number
        assert response.read() == b""


def test_a_websocket_passes_with_the_credential(envoy: EnvoyRig) -> None:
    with envoy.tls("key.example.org") as sock:
        sock.sendall(
            b"GET /v1/ws HTTP/1.1\r\nHost: key.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        reader = sock.makefile("rb")
        assert reader.readline().startswith(b"HTTP/1.1 101")
        while reader.readline() != b"\r\n":
            pass
        sock.sendall(b"ping")
        assert reader.read(9) == b"echo:ping"
    assert envoy.internet.requests[0].headers["x-api-key"] == ["the-real-secret"]


def test_a_websocket_on_a_forbidden_path_is_refused(envoy: EnvoyRig) -> None:
    reply = envoy.get("key.example.org", "/ws", "Connection: Upgrade", "Upgrade: websocket")

    assert reply.reason == "path-not-allowed"
    assert envoy.internet.connections == []


@pytest.mark.parametrize("upgrade", ["h2c", "connect-udp", "tls/1.0"])
def test_no_other_protocol_is_switched_to(envoy: EnvoyRig, upgrade: str) -> None:
    switch = (
        "Connection: Upgrade, HTTP2-Settings",
        f"Upgrade: {upgrade}",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    reply = envoy.get("key.example.org", "/v1/x", *switch)

    assert reply.status in (200, 403, 404)
    for request in envoy.internet.requests:
        assert not {"upgrade", "http2-settings", "connection"} & set(request.headers)
