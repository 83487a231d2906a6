"""Who gets a tunnel, who gets told why not, and what is in the log afterwards."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

import pytest

from claude_bottle.sidecars.egress.gate import Limits

Rig = Any  # the class is in conftest.py, which cannot be imported

UNRECOGNIZED_NAME = b"\x15\x03\x01\x00\x02\x02\x70"
ACCESS_DENIED = b"\x15\x03\x01\x00\x02\x02\x31"


@pytest.fixture
def limits() -> Limits:
    return Limits(head_seconds=1.5, hello_seconds=1.5, connections=8, linger_seconds=0.3)


def test_an_allowed_host_is_reached_and_recorded(rig: Rig) -> None:
    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream, b"x" * 300_000)
    assert rig.world.asked == ["echo.example.org"]
    assert rig.world.dialled == [("93.184.216.34", 443)]
    about = {
        "connection": 1,
        "policy": 1,
        "host": "echo.example.org",
        "port": 443,
        "rule": "echo.example.org",
        "origin": "bottle.md:7",
        "inspect": False,
        "address": "93.184.216.34",
    }
    allowed = {"event": "connect", "verdict": "allow", "reason": "allowed", "detail": ""}
    assert rig.line(stage="firewall") == {**about, **allowed, "stage": "firewall", "sni": None}
    gate = {**about, "stage": "egress", "sni": "echo.example.org"}
    assert rig.line(stage="egress", event="connect") == {**gate, **allowed}
    end = dict(rig.line(stage="egress", event="close"))
    assert end.pop("bytes_up") > 300_000
    assert end.pop("bytes_down") > 300_000
    assert end.pop("seconds") >= 0
    assert end == {**gate, "event": "close", "reason": "closed"}
    assert [event["event"] for event in rig.events] == ["connect", "connect", "close"]


def test_an_inspected_host_goes_to_envoy_and_is_not_dialled(rig: Rig) -> None:
    with rig.tls("seen.example.org:8443", "seen.example.org") as stream:
        assert rig.echoes(stream)
    assert rig.world.dialled == []
    assert rig.envoy.names == ["PROXY TCP4 10.0.0.0 127.0.0.1 2 443\r\n"]
    assert rig.line(event="connect")["inspect"] is True
    assert rig.line(event="close")["address"] is None


def test_a_hello_in_one_piece_with_the_head(rig: Rig) -> None:
    flight = rig.hello("raw.example.org") + b"early data"
    with rig.connect() as sock:
        sock.sendall(rig.head("raw.example.org:443") + flight)
        assert rig.read_reply(sock).status == 200
        with rig.accept_raw() as peer:
            sock.shutdown(socket.SHUT_WR)
            assert rig.read_all(peer) == flight


def test_all_is_sent_byte_by_byte(rig: Rig) -> None:
    hello = rig.hello("raw.example.org")
    with rig.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in rig.head("raw.example.org:443"):
            sock.send(bytes([byte]))
        assert rig.read_reply(sock).status == 200
        for byte in hello:
            sock.send(bytes([byte]))
        sock.shutdown(socket.SHUT_WR)
        with rig.accept_raw() as peer:
            assert rig.read_all(peer) == hello


@pytest.mark.parametrize("target", ["ECHO.Example.ORG:443", "echo.example.org.:443"])
def test_spellings_of_one_host(rig: Rig, target: str) -> None:
    with rig.tls(target, "echo.example.org") as stream:
        assert rig.echoes(stream)


@pytest.mark.parametrize(
    ("head", "status", "reason"),
    [
        (b"GET http://echo.example.org/ HTTP/1.1\r\nHost: echo.example.org\r\n\r\n", 405, "only-connect"),
        (b"CONNECT other.example.org:443 HTTP/1.1\r\n\r\n", 403, "host-not-allowed"),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", 403, "host-not-allowed"),
        (b"CONNECT wild.example.org:443 HTTP/1.1\r\n\r\n", 403, "host-not-allowed"),
        (b"CONNECT echo.example.org:22 HTTP/1.1\r\n\r\n", 403, "port-not-allowed"),
        (b"CONNECT echo.example.org.evil.test:443 HTTP/1.1\r\n\r\n", 403, "host-not-allowed"),
        (b"CONNECT evil.test\0.wild.example.org:443 HTTP/1.1\r\n\r\n", 400, "bad-request"),
        (b"CONNECT evil.test%00.wild.example.org:443 HTTP/1.1\r\n\r\n", 400, "host-invalid"),
        (b"CONNECT echo.example.org:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403, "host-mismatch"),
        (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: echo.example.org\r\n\r\n", 403, "host-mismatch"),
        (b"CONNECT echo.example.org:443 HTTP/1.1\nHost: echo.example.org\n\n", 400, "bad-request"),
        (b"CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n", 403, "host-not-allowed"),
        (b"CONNECT 0x7f000001:443 HTTP/1.1\r\n\r\n", 400, "host-invalid"),
        (b"CONNECT 0177.0.0.1:443 HTTP/1.1\r\n\r\n", 400, "host-invalid"),
        (b"CONNECT 127.1:443 HTTP/1.1\r\n\r\n", 400, "host-invalid"),
        (b"CONNECT 2130706433:443 HTTP/1.1\r\n\r\n", 400, "host-invalid"),
        (b"CONNECT [::ffff:127.0.0.1]:443 HTTP/1.1\r\n\r\n", 403, "host-not-allowed"),
        (b"CONNECT 127.0.0.1:443 HTTP/1.1\r\n\r\n", 403, "private-address"),
        (b"CONNECT 93.184.216.99:443 HTTP/1.1\r\n\r\n", 403, "ip-literal"),
        (b"CONNECT echo.example.org:443 HTTP/1.1\r\nX: " + b"a" * 17_000, 431, "head-too-large"),
        (b"CONNECT echo.example.org:443 HTTP/1.1\r\nX: " + b"a" * 400_000, 431, "head-too-large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad-request"),
    ],
)
def test_refused_with_a_reason(rig: Rig, head: bytes, status: int, reason: str) -> None:
    reply = rig.refused(head)
    assert (reply.status, reply.error["type"], reply.error["reason"]) == (
        status,
        "claude-bottle-denied",
        reason,
    )
    line = rig.line(stage="egress")
    assert (line["verdict"], line["reason"], line["host"]) == ("deny", reason, reply.error["host"])
    assert rig.world.dialled == []


def test_a_slow_head_is_cut_off(rig: Rig) -> None:
    reply = rig.refused(b"CONNECT echo.example.org:443 HTTP/1.1\r\nX: ")
    assert (reply.status, reply.error["reason"]) == (408, "head-timeout")


def test_a_slow_hello_is_cut_off(rig: Rig) -> None:
    with rig.tunnel("echo.example.org:443") as sock:
        sock.sendall(rig.hello("echo.example.org")[:-1])
        assert rig.read_all(sock) == b""
    assert rig.line(stage="egress")["reason"] == "hello-timeout"
    assert rig.echo.spoken_to == 0


@pytest.mark.parametrize("target", ["echo.example.org:443", "seen.example.org:443"])
@pytest.mark.parametrize(
    ("sni", "reason"),
    [
        ("evil.test", "sni-mismatch"),
        ("seen.example.org.evil.test", "sni-mismatch"),
        ("example.org", "sni-mismatch"),
        (None, "sni-missing"),
    ],
)
def test_the_tls_name_must_be_the_host(rig: Rig, target: str, sni: str | None, reason: str) -> None:
    with rig.tunnel(target) as sock:
        sock.sendall(rig.hello(sni))
        assert rig.read_all(sock) == UNRECOGNIZED_NAME
    line = rig.line(stage="egress")
    assert (line["verdict"], line["reason"], line["sni"]) == ("deny", reason, sni)
    assert rig.echo.spoken_to + rig.envoy.spoken_to == 0


def test_a_tls_client_understands_the_alert(rig: Rig) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        rig.tls("echo.example.org:443", "evil.test")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: echo.example.org\r\n\r\n", b"SSH-2.0-x\r\n", b"\0" * 300_000]
)
@pytest.mark.parametrize("target", ["echo.example.org:443", "seen.example.org:443"])
def test_a_tunnel_is_for_tls_only(rig: Rig, target: str, data: bytes) -> None:
    with rig.tunnel(target) as sock:
        with suppress(ConnectionError):
            sock.sendall(data)
        assert rig.read_all(sock) == b""
    assert rig.line(stage="egress")["reason"] == "not-tls"
    assert rig.echo.spoken_to + rig.envoy.spoken_to == 0


def test_a_hidden_name_is_refused_where_nobody_can_read_it(rig: Rig) -> None:
    with rig.tunnel("echo.example.org:443") as sock:
        sock.sendall(rig.hello("echo.example.org", encrypted=True))
        assert rig.read_all(sock) == ACCESS_DENIED
    assert rig.line(stage="egress")["reason"] == "ech-refused"
    assert rig.echo.spoken_to == 0


def test_a_hidden_name_is_no_matter_where_tls_ends_at_envoy(rig: Rig) -> None:
    with rig.tunnel("seen.example.org:443") as sock:
        sock.sendall(rig.hello("seen.example.org", encrypted=True))
        assert sock.recv(1) == b"\x16"  # the server's hello
    assert rig.line(event="connect")["verdict"] == "allow"


def test_an_address_is_reached_by_an_opaque_rule_for_it(rig: Rig) -> None:
    with rig.tunnel("93.184.216.34:443") as sock:
        sock.sendall(rig.hello(None))
        assert sock.recv(1) == b"\x16"
    assert rig.world.asked == []
    assert rig.world.dialled == [("93.184.216.34", 443)]


def test_no_name_is_smuggled_to_an_address(rig: Rig) -> None:
    with rig.tunnel("93.184.216.34:443") as sock:
        sock.sendall(rig.hello("evil.test"))
        assert rig.read_all(sock) == UNRECOGNIZED_NAME
    assert rig.line(stage="egress")["reason"] == "sni-mismatch"


def test_one_connection_too_many(rig: Rig) -> None:
    held = [rig.connect() for _ in range(8)]
    try:
        for sock in held:
            assert rig.ask(sock, rig.head("raw.example.org:443")).status == 200
        reply = rig.refused(rig.head("echo.example.org:443"))
        assert (reply.status, reply.error["reason"]) == (503, "too-many-connections")
    finally:
        for sock in held:
            sock.close()
    rig.wait_until(lambda: len(rig.lines(reason="client-gone")) == 8, "eight to be let go")
    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream)


def test_a_client_that_leaves_without_a_word_is_no_decision(rig: Rig) -> None:
    rig.connect().close()
    with rig.connect() as sock:
        sock.sendall(b"CONNECT echo")
        sock.shutdown(socket.SHUT_WR)
        assert rig.read_reply(sock).error["reason"] == "client-gone"
    assert [line["reason"] for line in rig.events] == ["client-gone"]
