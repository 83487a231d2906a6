"""What is said to the egress gate before a tunnel opens: one CONNECT request, or a refusal.

Invariant: a head is accepted only if it has exactly one reading, the one that is acted on.
Pure: bytes in, values out.

Rules:
- One head, at most 16 KiB, of printable ASCII lines that end in CRLF; a bare CR or LF is refused.
- `CONNECT host:port HTTP/1.1` (or 1.0) and nothing else; other methods and forms are "only-connect".
- IPv6 literals stand in brackets. Host and port are normalised once, here.
- A Host header, if there is one, names the same host (and the same port where it names a port).
- No body: a Transfer-Encoding, or a Content-Length other than 0, is refused.
- What follows the head belongs to the tunnel and is handed on untouched.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from claude_bottle.policy.denials import Attempt, denial
from claude_bottle.policy.hosts import InvalidHost, normalise_host, parse_ip
from claude_bottle.policy.model import Route

MAX_HEAD = 16 * 1024
MAX_HEADERS = 100
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_STATUS = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
_STRAY = re.compile(rb"[^\t\r\n -~]|(?<!\r)\n|\r(?=[^\n])")
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#%\s]+))(?::([1-9][0-9]{0,4}))?")


class RefusedError(Exception):
    """Why a connection goes no further: an HTTP status, a stable word, and one short sentence."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.status = status
        self.reason = reason
        self.detail = detail


class ConnectRequest(NamedTuple):
    """Where the client wants a tunnel to. `literal` tells an address from a name."""

    host: str
    port: int
    literal: bool


class HeadReader:
    """Takes bytes in pieces of any size; the work is linear in them, however they are cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[ConnectRequest, bytes] | None:
        """The request and the tunnel's first bytes, or None while the head is incomplete.

        Raises `RefusedError` as soon as the bytes cannot become an acceptable head.
        """
        seen = len(self._buffer)
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n", max(0, seen - 3))
        limit = len(self._buffer) if end < 0 else end
        if limit > MAX_HEAD:
            raise RefusedError(431, "head-too-large", f"a request head of more than {MAX_HEAD} bytes")
        if _STRAY.search(self._buffer, max(0, seen - 1), limit):
            raise _bad("a byte that has no place in a request head")
        if end < 0:
            return None
        return parse_head(self._buffer[:end].decode("ascii")), bytes(self._buffer[end + 4 :])


def parse_head(head: str) -> ConnectRequest:
    """The head without its closing empty line."""
    first, *lines = head.split("\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise _bad("no request line of HTTP/1.1")
    if line[1] != "CONNECT":
        raise RefusedError(405, "only-connect", "this proxy only opens tunnels: use https and CONNECT")
    request = _authority(line[2])
    if request.port == 0:
        raise RefusedError(405, "only-connect", "CONNECT takes host:port")
    _check_headers(request, line[2], lines)
    return request


def check_literal(request: ConnectRequest, route: Route) -> None:
    """An address instead of a name needs an opaque rule for that address. Raises RefusedError."""
    if request.literal and (route.inspect or route.host != request.host):
        raise RefusedError(403, "ip-literal", "an address is allowed only by an opaque rule for it")


def refusal(
    refused: RefusedError,
    host: str = "",
    port: int = 0,
    nearest: Route | None = None,
    *,
    supervised: bool = False,
) -> bytes:
    """The reply to a refused request, readable for a machine; the connection closes after it."""
    said = denial(Attempt(host, port), refused.reason, refused.detail, nearest, supervised=supervised)
    body = json.dumps(said).encode("ascii") + b"\n"
    allow = "Allow: CONNECT\r\n" if refused.status == 405 else ""
    head = (
        f"HTTP/1.1 {refused.status} {_STATUS[refused.status]}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _check_headers(request: ConnectRequest, target: str, lines: list[str]) -> None:
    if len(lines) > MAX_HEADERS:
        raise _bad(f"more than {MAX_HEADERS} header lines")
    hosts = 0
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _bad("a malformed header line")
        name, value = header[1].lower(), header[2]
        if name == "host":
            hosts += 1
            if value != target:
                _check_host(request, value)
        elif name == "transfer-encoding" or (name == "content-length" and value != "0"):
            raise _bad("a CONNECT request with a body")
    if hosts > 1:
        raise _bad("more than one Host header")


def _check_host(request: ConnectRequest, value: str) -> None:
    named = _authority(value)
    if named.host != request.host or named.port not in (0, request.port):
        raise RefusedError(403, "host-mismatch", "the Host header and the CONNECT target differ")


def _authority(text: str) -> ConnectRequest:
    """`host:port`, or `host` with port 0."""
    parts = _AUTHORITY.fullmatch(text)
    if parts is None:
        raise RefusedError(400, "host-invalid", "not of the form host:port")
    address, name, digits = parts.groups()
    port = int(digits or 0)
    if port > 65535:
        raise RefusedError(400, "host-invalid", "a port above 65535")
    try:
        host = normalise_host(f"[{address}]" if address else name)
    except InvalidHost as error:
        raise RefusedError(400, "host-invalid", str(error)) from None
    return ConnectRequest(host, port, literal=parse_ip(host) is not None)


def _bad(detail: str) -> RefusedError:
    return RefusedError(400, "bad-request", detail)
