"""The bytes between Envoy and the authorization server: one parser, two answers, no I/O.

Envoy is the only client, so the parser knows exactly one form of request: a head of bounded size and no
body. Invariant: whatever is not of that form raises `MalformedError`, and the connection is closed; Envoy
then refuses the request that it asked about.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

from claude_bottle.policy.denials import Attempt, denial
from claude_bottle.policy.model import Route
from claude_bottle.sidecars.egress.envoy import PEER_HEADER, REMOVE_HEADER, SNI_HEADER

MAX_HEAD = 96 * 1024  # above what Envoy takes from a client, 60 KiB
END_OF_HEAD = b"\r\n\r\n"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_TARGET = re.compile(r"[\x21-\x7e]+")
_FIELD_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


class MalformedError(Exception):
    """Envoy does not write this."""


class AuthzRequest(NamedTuple):
    """One request of the agent, as it will go upstream: `path` is byte for byte the upstream's."""

    method: str
    path: str
    host: str  # as it is in Host, without the port
    port: int
    sni: str  # lower case: Envoy compares it so
    peer: str = ""  # the gate's name of the connection
    plain: bool = False  # one request after another in it


def parse_request(head: bytes) -> AuthzRequest:
    """`head` is all bytes before the empty line."""
    if len(head) > MAX_HEAD:
        raise MalformedError("head too long")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1":
        raise MalformedError("request line")
    method, path, _ = words
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(path):
        raise MalformedError("method or path")
    fields = _parse_fields(lines)
    if "transfer-encoding" in fields or fields.get("content-length", "0") != "0":
        raise MalformedError("body")
    authority = _AUTHORITY.fullmatch(fields.get("host", ""))
    sni = fields.get(SNI_HEADER, "")
    if authority is None or not sni:
        raise MalformedError("host or server name")
    protocol, _, peer = fields.get(PEER_HEADER, "").partition(" ")
    plain = protocol.startswith("HTTP/1")
    return AuthzRequest(method, path, authority[1], int(authority[2] or 443), sni.lower(), peer, plain)


def _parse_fields(lines: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise MalformedError("header")
        if name.lower() in fields:
            raise MalformedError("repeated header")
        fields[name.lower()] = value.strip(" \t")
    return fields


def render_allow(credential: Iterable[tuple[str, str]], remove: Iterable[str]) -> bytes:
    """200: Envoy sets the credential on the request, over whatever the client sent, and drops `remove`."""
    lines = ["HTTP/1.1 200 OK", "content-length: 0"]
    for name, value in credential:
        if not _TOKEN.fullmatch(name) or not value or not _FIELD_VALUE.fullmatch(value):
            raise ValueError("a credential that does not fit into a header")
        lines.append(f"{name.lower()}: {value}")
    names = ",".join(remove)
    if names:
        lines.append(f"{REMOVE_HEADER}: {names}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def render_deny(
    request: AuthzRequest, reason: str, detail: str, nearest: Route | None = None, *, supervised: bool = False
) -> bytes:
    """403 with a body that the agent can turn into a proposal."""
    attempt = Attempt(request.host, request.port, request.method, request.path)
    said = denial(attempt, reason, detail, nearest, supervised=supervised)
    body = json.dumps(said).encode("ascii") + b"\n"
    head = f"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + (b"" if request.method == "HEAD" else body)
