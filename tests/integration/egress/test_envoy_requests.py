"""What passes Envoy, with which credential, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.needs("envoy")
EnvoyRig = Any  # the class is in conftest.py, which cannot be imported

SECRET = "the-real-secret"


def test_an_allowed_request_passes_and_its_placeholder_is_replaced(envoy: EnvoyRig) -> None:
    reply = envoy.get("key.example.org", "/v1/messages?beta=true", "X-Api-Key: placeholder")

    assert (reply.status, reply.headers["server"]) == (200, "origin")
    (request,) = envoy.internet.requests
    assert request.request_line == "GET /v1/messages?beta=true HTTP/1.1"
    assert request.headers["x-api-key"] == [SECRET]
    assert b"placeholder" not in request.head
    assert request.sni == "key.example.org"


def test_every_copy_of_a_placeholder_is_replaced(envoy: EnvoyRig) -> None:
    envoy.get("key.example.org", "/v1/x", "X-Api-Key: one", "x-api-key: two", "X-API-KEY:")

    assert envoy.internet.requests[0].headers["x-api-key"] == [SECRET]


def test_nothing_is_added_but_the_credential(envoy: EnvoyRig) -> None:
    reply = envoy.get("key.example.org", "/v1/x", "Accept: */*", "X-Claude-Bottle-Sni: other.example.org")

    assert sorted(envoy.internet.requests[0].headers) == ["accept", "host", "x-api-key"]
    assert not [name for name in reply.headers if "envoy" in name]


def test_other_credentials_do_not_pass_beside_the_added_one(envoy: EnvoyRig) -> None:
    others = ("Authorization: Bearer mine", "Cookie: session=mine", "Private-Token: mine", "Api-Key: mine")
    envoy.get("key.example.org", "/v1/x", *others, "Proxy-Authorization: Basic mine", "Accept: */*")

    (request,) = envoy.internet.requests
    assert b"mine" not in request.head
    assert request.headers["accept"] == ["*/*"]


def test_a_bearer_route_removes_an_api_key(envoy: EnvoyRig) -> None:
    envoy.get("bearer.example.org", "/", "X-Api-Key: mine", "Authorization: Bearer placeholder")

    (request,) = envoy.internet.requests
    assert request.headers["authorization"] == [f"Bearer {SECRET}"]
    assert "x-api-key" not in request.headers


def test_a_connection_option_cannot_drop_the_credential(envoy: EnvoyRig) -> None:
    reply = envoy.get("key.example.org", "/v1/x", "Connection: x-api-key, keep-alive", "X-Api-Key: p")

    for request in envoy.internet.requests:
        assert request.headers["x-api-key"] == [SECRET]
    assert reply.status in (200, 400, 403)


def test_a_route_without_a_credential_leaves_the_clients_own(envoy: EnvoyRig) -> None:
    envoy.get("open.example.org", "/", "Authorization: Bearer mine", "Cookie: a=b")

    (request,) = envoy.internet.requests
    assert request.headers["authorization"] == ["Bearer mine"]
    assert SECRET.encode() not in request.head


def test_headers_that_steer_envoy_do_nothing(envoy: EnvoyRig) -> None:
    steering = (
        "X-Envoy-Original-Path: /v1/other",
        "X-Envoy-Auth-Headers-To-Remove: host",
        "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
        "X-Envoy-Decorator-Operation: x",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Original-Url: /v1/kept",
    )
    assert envoy.get("key.example.org", "/v1/x", *steering).status == 200

    (request,) = envoy.internet.requests
    assert request.path == "/v1/x"
    assert sorted(request.headers) == ["host", "x-api-key", "x-original-url"]


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/v2/models", "path-not-allowed"),
        ("GET", "/v10", "path-not-allowed"),
        ("DELETE", "/v1/x", "method-not-allowed"),
        ("PROPFIND", "/v1/x", "method-not-allowed"),
    ],
)
def test_a_denial_is_json_that_says_why(envoy: EnvoyRig, method: str, path: str, reason: str) -> None:
    reply = envoy.get("key.example.org", path, "X-Api-Key: p", method=method)

    assert (reply.status, reply.reason) == (403, reason)
    error = json.loads(reply.body)["error"]
    assert (error["host"], error["method"], error["path"]) == ("key.example.org", method, path)
    assert envoy.internet.connections == []
    (event,) = envoy.authz.events
    assert (event["verdict"], event["reason"], event["path"]) == ("deny", reason, path)


def test_a_refused_head_request_leaves_the_connection_usable(envoy: EnvoyRig) -> None:
    assert envoy.get("key.example.org", "/no", method="HEAD").status == 403
    assert envoy.get("key.example.org", "/v1/x", method="HEAD").status == 200
    assert [event["verdict"] for event in envoy.authz.events] == ["deny", "allow"]


def test_an_allowed_request_is_on_record_without_the_secret(envoy: EnvoyRig) -> None:
    envoy.get("key.example.org", "/v1/x", "X-Api-Key: placeholder")

    (event,) = envoy.authz.events
    assert event["verdict"] == "allow"
    assert event["credential"] == "env:UNUSED"
    assert SECRET not in repr(event)


def test_what_cannot_be_recorded_does_not_happen(envoy: EnvoyRig) -> None:
    envoy.authz.fail_record = True

    assert envoy.get("key.example.org", "/v1/x").reason == "log-unavailable"
    assert envoy.internet.connections == []


def test_without_the_credential_nothing_is_sent(envoy: EnvoyRig) -> None:
    envoy.authz.fail_credential = True
    reply = envoy.get("key.example.org", "/v1/x", "X-Api-Key: placeholder")

    assert reply.reason == "credential-unavailable"
    assert SECRET.encode() not in reply.body
    assert envoy.internet.connections == []
    assert SECRET not in repr(envoy.authz.events)


def test_without_the_authorization_server_everything_is_refused(envoy: EnvoyRig) -> None:
    assert envoy.get("key.example.org", "/v1/x").status == 200
    envoy.internet.requests.clear()
    envoy.authz.close()
    try:
        assert envoy.get("key.example.org", "/v1/x").status == 403
        assert envoy.get("open.example.org", "/").status == 403
    finally:
        envoy.authz.open()
    assert envoy.internet.requests == []
    assert envoy.get("key.example.org", "/v1/x").status == 200


def test_the_probe_is_answered_without_going_anywhere(envoy: EnvoyRig) -> None:
    reply = envoy.get("key.example.org", "/.claude-bottle/probe", "X-Api-Key: placeholder")

    assert (reply.status, reply.body) == (204, b"")
    assert envoy.internet.connections == []
    assert envoy.authz.events == []
    assert SECRET not in repr(reply.headers)


def test_only_the_probe_itself_is_answered(envoy: EnvoyRig) -> None:
    for path in ("/.claude-bottle/probe/x", "/.claude-bottle/prob", "/.claude-bottle/Probe"):
        assert envoy.get("key.example.org", path).reason == "path-not-allowed"


def test_neither_config_nor_access_log_holds_a_secret(envoy: EnvoyRig) -> None:
    envoy.get("key.example.org", "/v1/logged?query=hidden", "X-Api-Key: placeholder")

    assert SECRET not in (envoy.folder / "envoy.json").read_text()
    entry = envoy.access_log(path="/v1/logged")
    assert (entry["status"], entry["authority"], entry["upstream"]) == (200, "key.example.org", "up-0.sock")
    text = (envoy.folder / "envoy-access.log").read_text()
    assert not [word for word in (SECRET, "placeholder", "hidden") if word in text]
