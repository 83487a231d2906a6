"""JSON-RPC and MCP as one side hears it: each message is one action, whatever its bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.sidecars.supervise import protocol
from claude_bottle.sidecars.supervise.protocol import Call, Cancelled, Noted, Offer, Reply, understand
from claude_bottle.sidecars.supervise.tools import INSTRUCTIONS, TOOLS

OFFER = Offer("claude-bottle", "1.0", INSTRUCTIONS, TOOLS)


def heard(message: object, version: str | None = None) -> protocol.Action:
    return understand(json.dumps(message).encode(), OFFER, version)


def request(method: str, params: object = None, ident: object = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "method": method, **({} if params is None else {"params": params})}


def error_of(action: protocol.Action) -> int:
    assert isinstance(action, Reply)
    assert "result" not in action.message
    code = action.message["error"]["code"]
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("version", protocol.VERSIONS)
def test_a_known_version_is_agreed_to(version: str) -> None:
    action = heard(request("initialize", {"protocolVersion": version, "capabilities": {}}))
    assert isinstance(action, Reply)
    assert action.message["result"]["protocolVersion"] == version
    assert set(action.message["result"]["capabilities"]) == {"tools"}
    assert action.message["result"]["instructions"] == INSTRUCTIONS


@pytest.mark.parametrize("version", ["2024-11-05", "2026-07-28", "", 7, None, ["2025-11-25"]])
def test_for_any_other_the_newest_is_offered(version: object) -> None:
    action = heard(request("initialize", {"protocolVersion": version}))
    assert isinstance(action, Reply)
    assert action.message["result"]["protocolVersion"] == "2025-11-25"


def test_a_method_of_later_versions_is_not_there_whatever_version_the_transport_names() -> None:
    action = heard(request("server/discover", {}), "2026-07-28")
    assert error_of(action) == protocol.METHOD_NOT_FOUND
    assert isinstance(action, Reply)
    assert action.accepted


def test_ping_and_list() -> None:
    assert heard(request("ping")) == Reply({"jsonrpc": "2.0", "id": 1, "result": {}})
    action = heard(request("tools/list", {"cursor": "x"}, "a"))
    assert isinstance(action, Reply)
    assert action.message["id"] == "a"
    assert [tool["name"] for tool in action.message["result"]["tools"]] == [tool["name"] for tool in TOOLS]


def test_a_call_keeps_its_token_and_arguments() -> None:
    params = {"name": "check-proposal", "arguments": {"id": "p-0"}, "_meta": {"progressToken": "t"}}
    assert heard(request("tools/call", params, 7)) == Call(7, "check-proposal", {"id": "p-0"}, "t")
    assert heard(request("tools/call", {"name": "check-proposal"})) == Call(1, "check-proposal", {}, None)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"name": "rm"}, protocol.INVALID_PARAMS),
        ({"name": ["egress-block"]}, protocol.INVALID_PARAMS),
        ({}, protocol.INVALID_PARAMS),
        ({"name": "egress-block", "arguments": []}, protocol.INVALID_PARAMS),
        ([], protocol.INVALID_PARAMS),
        ("x", protocol.INVALID_PARAMS),
    ],
)
def test_a_call_that_cannot_be_one(params: object, code: int) -> None:
    assert error_of(heard(request("tools/call", params))) == code


@pytest.mark.parametrize("token", [True, 1.5, None, {"a": 1}, "x" * 200, "\ud800", 1 << 60])
def test_a_token_that_is_none_is_left_out(token: object) -> None:
    action = heard(request("tools/call", {"name": "egress-block", "_meta": {"progressToken": token}}))
    assert isinstance(action, Call)
    assert action.token is None


def test_notifications_are_not_answered() -> None:
    def told(method: str, params: object) -> protocol.Action:
        return heard({"jsonrpc": "2.0", "method": method, "params": params})

    assert told("notifications/initialized", {}) == Noted()
    assert told("notifications/cancelled", {"requestId": 7}) == Cancelled(7)
    assert told("notifications/cancelled", {"requestId": [7]}) == Noted()
    assert told("notifications/cancelled", [7]) == Noted()
    assert told("tools/call", {"name": "egress-block"}) == Noted()
    assert heard({"jsonrpc": "2.0", "id": 3, "result": {}}) == Noted()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", protocol.PARSE_ERROR),
        (b"\xff", protocol.PARSE_ERROR),
        (b"{", protocol.PARSE_ERROR),
        (b"[" * 60_000, protocol.PARSE_ERROR),
        (b'{"a":' * 8_000, protocol.PARSE_ERROR),
        (b'{"jsonrpc": "2.0", "jsonrpc": "2.0", "id": 1, "method": "ping"}', protocol.PARSE_ERROR),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "ping"}', protocol.PARSE_ERROR),
        (b'{"jsonrpc": "2.0", "id": ' + b"9" * 5000 + b', "method": "ping"}', protocol.PARSE_ERROR),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', protocol.INVALID_REQUEST),
        (b"[]", protocol.INVALID_REQUEST),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": 1}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 5}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}', protocol.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b"[" * 40 + b"1" + b"]" * 40 + b"}", -32600),
    ],
)
def test_what_is_no_message_is_not_taken(body: bytes, code: int) -> None:
    action = understand(body, OFFER)
    assert error_of(action) == code
    assert isinstance(action, Reply)
    assert not action.accepted


def test_a_version_that_nobody_agreed_to() -> None:
    action = heard(request("tools/list"), "1999-01-01")
    assert error_of(action) == protocol.INVALID_REQUEST
    assert isinstance(action, Reply)
    assert not action.accepted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
near_messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | json_values,
        "id": st.integers(0, 5) | json_values,
        "method": st.sampled_from(
            ["initialize", "ping", "tools/list", "tools/call", "notifications/cancelled"]
        )
        | json_values,
        "params": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from([str(tool["name"]) for tool in TOOLS]) | json_values,
                "arguments": json_values,
                "_meta": json_values,
                "requestId": json_values,
                "protocolVersion": json_values,
            },
        )
        | json_values,
    },
)


@given(near_messages | json_values, st.none() | st.text(max_size=12))
@settings(max_examples=500, deadline=None)
def test_every_json_value_is_one_action_and_every_reply_is_json(message: object, version: str | None) -> None:
    action = understand(json.dumps(message).encode(), OFFER, version)
    assert isinstance(action, Reply | Call | Cancelled | Noted)
    if isinstance(action, Reply):
        json.dumps(action.message, allow_nan=False).encode("ascii")


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_bytes_that_are_no_json_are_refused(body: bytes) -> None:
    action = understand(body, OFFER)
    assert isinstance(action, Reply)
    assert not action.accepted
