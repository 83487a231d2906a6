"""What a client says to the supervise sidecar, by JSON-RPC 2.0 and MCP. Pure: bytes in, an action out.

Invariant: every message becomes exactly one action, whatever its bytes are; what is unknown, mistyped or has
two readings is an error that names no content of the message.

The server keeps no state of a client, so nothing is lost when either of them starts anew: a message is
judged by itself, `initialize` included. Versions are those that begin with a handshake; a client that asks
for a later one (`server/discover`) learns that there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")  # the newest first
PRIMED = ("2025-11-25",)  # those that know an event without content

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
INTERNAL_ERROR = -32603

MAX_ID = 128  # characters
MAX_DEPTH = 32
_LARGEST = 1 << 53  # of a number that every JSON reader reads alike

Json = dict[str, Any]
Ident = str | int


class Offer(NamedTuple):
    """What the server has to offer, as the protocol shows it."""

    name: str
    version: str
    instructions: str
    tools: Sequence[Mapping[str, object]]


class Reply(NamedTuple):
    """What is answered at once. `accepted` is false for what is no message that can be taken."""

    message: Json
    accepted: bool = True


class Call(NamedTuple):
    """A tool is called. `token` is given where the client wants to hear of progress."""

    ident: Ident
    tool: str
    arguments: Mapping[str, Any]
    token: Ident | None = None


class Cancelled(NamedTuple):
    """The client does not wait for this call any more."""

    ident: Ident


class Noted(NamedTuple):
    """Nothing is to be done."""


Action = Reply | Call | Cancelled | Noted


class _Wrong(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def understand(body: bytes, offer: Offer, version: str | None = None) -> Action:
    """`version` is the one that the transport names; None where it names none."""
    try:
        message = _message(body)
    except _Wrong as wrong:
        return Reply(failure(None, wrong.code, str(wrong)), accepted=False)
    method, ident = message.get("method"), message.get("id")
    if method is None:
        if "result" in message or "error" in message:
            return Noted()  # an answer, though nothing was asked
        return Reply(failure(None, INVALID_REQUEST, "neither a request nor an answer"), accepted=False)
    if not isinstance(method, str):
        return Reply(failure(None, INVALID_REQUEST, "the method is not a text"), accepted=False)
    if "id" not in message:
        return _notification(method, message.get("params"))
    if not is_ident(ident):
        return Reply(failure(None, INVALID_REQUEST, "the id is not a short text or number"), accepted=False)
    try:
        return _request(ident, method, _params(message), offer, version)
    except _Wrong as wrong:
        return Reply(failure(ident, wrong.code, str(wrong)), accepted=wrong.code != INVALID_REQUEST)


def success(ident: Ident, result: Mapping[str, object]) -> Json:
    return {"jsonrpc": "2.0", "id": ident, "result": dict(result)}


def failure(ident: Ident | None, code: int, text: str) -> Json:
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": text}}


def progress(token: Ident, seconds: float, text: str) -> Json:
    params = {"progressToken": token, "progress": seconds, "message": text}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


def _request(ident: Ident, method: str, params: Json, offer: Offer, version: str | None) -> Action:
    if method == "initialize":
        return Reply(success(ident, _initialized(params, offer)))
    if method not in ("ping", "tools/list", "tools/call"):
        raise _Wrong(METHOD_NOT_FOUND, "there is no such method here")
    if version is not None and version not in VERSIONS:
        raise _Wrong(INVALID_REQUEST, f"unknown protocol version; known: {', '.join(VERSIONS)}")
    if method == "ping":
        return Reply(success(ident, {}))
    if method == "tools/list":
        return Reply(success(ident, {"tools": list(offer.tools)}))
    return _call(ident, params, offer)


def _initialized(params: Json, offer: Offer) -> Json:
    asked = params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": offer.name, "version": offer.version},
        "instructions": offer.instructions,
    }


def _call(ident: Ident, params: Json, offer: Offer) -> Call:
    name, arguments, meta = params.get("name"), params.get("arguments", {}), params.get("_meta", {})
    if name not in [tool["name"] for tool in offer.tools]:
        raise _Wrong(INVALID_PARAMS, "there is no such tool")
    if not isinstance(arguments, dict):
        raise _Wrong(INVALID_PARAMS, "the arguments are not an object")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return Call(ident, str(name), arguments, token if is_ident(token) else None)


def _notification(method: str, params: object) -> Action:
    if method == "notifications/cancelled" and isinstance(params, dict):
        ident = params.get("requestId")
        return Cancelled(ident) if is_ident(ident) else Noted()
    return Noted()


def _params(message: Json) -> Json:
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise _Wrong(INVALID_PARAMS, "the parameters are not an object")
    return params


def _message(body: bytes) -> Json:
    try:
        found = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Wrong(PARSE_ERROR, "this is not JSON") from None
    if isinstance(found, list):
        raise _Wrong(INVALID_REQUEST, "one message at a time: batches are not taken")
    if not isinstance(found, dict) or found.get("jsonrpc") != "2.0":
        raise _Wrong(INVALID_REQUEST, "this is no message of JSON-RPC 2.0")
    if _too_deep(found):
        raise _Wrong(INVALID_REQUEST, f"nested more than {MAX_DEPTH} deep")
    return found


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """Of two values for one key, readers take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(text)  # NaN and its like


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return False
        level = inner
    return True


def is_ident(value: object) -> TypeGuard[Ident]:
    if isinstance(value, str):
        return len(value) <= MAX_ID and not any("\ud800" <= char <= "\udfff" for char in value)
    return type(value) is int and abs(value) < _LARGEST
