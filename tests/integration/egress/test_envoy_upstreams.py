"""Where Envoy's requests lead: names, ports, certificates, and the operator's own upstreams."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.needs("envoy")
EnvoyRig = Any  # the class is in conftest.py, which cannot be imported

SECRET = "the-real-secret"


def test_an_http_upstream_gets_plain_http_and_its_own_name(envoy: EnvoyRig) -> None:
    assert envoy.get("local.example.org", "/v1/x").status == 200

    (request,) = envoy.internet.requests
    assert (request.outlet, request.sni) == ("local.example.org:443", None)
    assert request.headers["host"] == ["127.0.0.1:8080"]
    assert request.headers["authorization"] == [f"Bearer {SECRET}"]


def test_an_https_upstream_is_asked_for_by_its_own_name(envoy: EnvoyRig) -> None:
    assert envoy.get("gateway.example.org", "/x").status == 200

    (request,) = envoy.internet.requests
    assert (request.outlet, request.sni) == ("gateway.example.org:443", "gw.internal.example")
    assert request.headers["host"] == ["gw.internal.example:8443"]


def test_a_server_with_another_name_gets_nothing(envoy: EnvoyRig) -> None:
    reply = envoy.get("impostor.example.org", "/x", "Authorization: Bearer placeholder")

    assert reply.status == 503
    assert envoy.internet.connections != []
    assert "impostor.example.org:443" not in envoy.internet.bytes_seen
    assert "verify" in str(envoy.access_log(authority="impostor.example.org")["upstream_failure"]).lower()


def test_the_port_in_host_chooses_the_upstream(envoy: EnvoyRig) -> None:
    for host in ("open.example.org", "open.example.org:443", "open.example.org:8443"):
        assert envoy.get(host, "/x").status == 200

    outlets = [request.outlet for request in envoy.internet.requests]
    assert outlets == ["open.example.org:443", "open.example.org:443", "open.example.org:8443"]
    assert [event["port"] for event in envoy.authz.events] == [443, 443, 8443]


def test_a_port_that_is_not_allowed_is_refused(envoy: EnvoyRig) -> None:
    assert envoy.get("key.example.org:8443", "/v1/x").reason == "port-not-inspected"
    assert envoy.get("key.example.org:0443", "/v1/x").status in (403, 421)
    assert envoy.internet.connections == []


def test_a_wildcard_is_dialled_by_the_name_that_was_asked_for(envoy: EnvoyRig) -> None:
    assert envoy.get("a.wild.example.org", "/").status == 200
    assert envoy.get("b.wild.example.org", "/").status == 200

    names = [(request.sni, request.headers["host"]) for request in envoy.internet.requests]
    assert names == [
        ("a.wild.example.org", ["a.wild.example.org"]),
        ("b.wild.example.org", ["b.wild.example.org"]),
    ]


def test_one_name_below_a_wildcard_cannot_speak_for_another(envoy: EnvoyRig) -> None:
    reply = envoy.send("a.wild.example.org", b"GET / HTTP/1.1\r\nHost: b.wild.example.org\r\n\r\n")

    assert reply.reason == "host-mismatch"
    assert envoy.internet.connections == []
