"""Envoy's upstream sockets: what comes in there is TLS for that rule, or goes to the operator's own host."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from claude_bottle.policy.model import Route, Upstream
from claude_bottle.sidecars.pipelock.dialler import DialLimits, resolve_name
from claude_bottle.sidecars.pipelock.protocol import StageError, Target

Rig = Any  # the class is in conftest.py, which cannot be imported
SEEN = Target("seen.example.org", 8443)
WILD = Target("*.seen.example.org", 443)


@pytest.fixture
def dial_limits() -> DialLimits:
    return DialLimits(hello_seconds=2.0, resolve_seconds=0.3, connect_seconds=0.3)


def envoy_stream(rig: Rig, path: str, sni: str) -> ssl.SSLSocket:
    stream: ssl.SSLSocket = rig.tls("", sni, rig.connect_unix(path))
    return stream


@pytest.mark.parametrize(("target", "host"), [(SEEN, "seen.example.org"), (WILD, "a.seen.example.org")])
def test_the_rules_host_is_dialled(rig: Rig, target: Target, host: str) -> None:
    with envoy_stream(rig, rig.serve_target(target), host) as stream:
        assert rig.echoes(stream, b"y" * 200_000)
    assert rig.world.asked == [host]
    assert rig.world.dialled == [("93.184.216.34", target.port)]
    allowed = rig.line(event="connect")
    assert (allowed["stage"], allowed["verdict"], allowed["host"], allowed["sni"], allowed["address"]) == (
        ("firewall", "allow", host, host, "93.184.216.34")
    )
    assert rig.line(event="close")["bytes_up"] > 200_000


@pytest.mark.parametrize(
    ("target", "sni", "reason"),
    [
        (SEEN, "evil.test", "sni-mismatch"),
        (SEEN, "a.seen.example.org", "sni-mismatch"),
        (SEEN, None, "sni-missing"),
        (WILD, "seen.example.org", "sni-mismatch"),
        (WILD, "evil.test", "sni-mismatch"),
        (Target("gone.example.org", 443), "gone.example.org", "host-not-allowed"),
        (Target("seen.example.org", 22), "seen.example.org", "port-not-allowed"),
        (Target("echo.example.org", 443), "echo.example.org", "rule-changed"),
        (Target("own.example.org", 443), "own.example.org", "rule-changed"),
    ],
)
def test_any_other_is_not(rig: Rig, target: Target, sni: str | None, reason: str) -> None:
    with rig.connect_unix(rig.serve_target(target)) as sock:
        sock.sendall(rig.hello(sni))
        assert rig.read_all(sock) == b""
    line = rig.line(stage="firewall")
    assert (line["verdict"], line["reason"]) == ("deny", reason)
    assert rig.world.asked == rig.world.dialled == []


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
def test_only_tls(rig: Rig, data: bytes) -> None:
    with rig.connect_unix(rig.serve_target(SEEN)) as sock:
        sock.sendall(data)
        assert rig.read_all(sock) == b""
    assert rig.line(stage="firewall")["reason"] in ("not-tls", "hello-timeout")
    assert rig.world.dialled == []


def test_a_private_answer_is_refused_here_too(rig: Rig) -> None:
    rig.world.answers["seen.example.org"] = [["10.0.0.1"]]
    with rig.connect_unix(rig.serve_target(SEEN)) as sock:
        sock.sendall(rig.hello("seen.example.org"))
        assert rig.read_all(sock) == b""
    assert rig.line(stage="firewall")["reason"] == "private-address"


def test_the_operators_own_host_may_be_private_and_need_not_speak_tls(rig: Rig) -> None:
    own = Upstream("http", "127.0.0.1", rig.raw.getsockname()[1])
    rig.set_policy([Route("own.example.org", upstream=own)], version=2)
    path = rig.serve_target(Target("own.example.org", 443, own))
    with rig.connect_unix(path) as sock, rig.accept_raw() as peer:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert rig.world.dialled == [("127.0.0.1", own.port)]


def test_an_upstream_of_an_older_policy_leads_nowhere(rig: Rig) -> None:
    old, new = (Upstream("http", "127.0.0.1", port) for port in (1, 2))
    rig.set_policy([Route("own.example.org", upstream=new)], version=2)
    with rig.connect_unix(rig.serve_target(Target("own.example.org", 443, old))) as sock:
        assert rig.read_all(sock) == b""
    assert rig.line(stage="firewall")["reason"] == "rule-changed"
    assert rig.world.dialled == []


def test_a_rule_that_goes_closes_envoys_connections(rig: Rig) -> None:
    with envoy_stream(rig, rig.serve_target(SEEN), "seen.example.org") as stream:
        assert rig.echoes(stream)
        assert rig.set_policy([], version=2) == 1
        assert rig.read_all(stream) == b""
    assert rig.line(event="close")["reason"] == "policy-changed"


def test_an_unrecorded_dial_carries_nothing(rig: Rig) -> None:
    rig.fail_record = lambda event: True
    rig.world.answers["seen.example.org"] = [["93.184.216.35"]]
    with rig.connect_unix(rig.serve_target(SEEN)) as sock:
        sock.sendall(rig.hello("seen.example.org"))
        with rig.accept_raw() as peer:
            assert rig.read_all(peer) == b""
        assert rig.read_all(sock) == b""


@pytest.mark.parametrize("held", ["resolve", "connect"])
def test_nobody_waits_forever(rig: Rig, held: str) -> None:
    async def never(*_: object) -> Any:
        await rig.loop.create_future()

    setattr(rig.dialler, f"_{held}", never)
    with pytest.raises(StageError) as caught:
        rig.run(rig.dialler.open("echo.example.org", 443))
    assert caught.value.reason == {"resolve": "dns-timeout", "connect": "connect-failed"}[held]


def test_an_inspected_host_is_not_opened_past_envoy(rig: Rig) -> None:
    with pytest.raises(StageError) as caught:
        rig.run(rig.dialler.open("seen.example.org", 443))
    assert (caught.value.reason, rig.world.asked) == ("rule-changed", [])


def test_the_system_resolver(rig: Rig) -> None:
    assert set(rig.run(resolve_name("localhost", 443))) & {"127.0.0.1", "::1"}
    with pytest.raises((OSError, UnicodeError)):
        rig.run(resolve_name("a" * 64 + ".invalid", 443))
