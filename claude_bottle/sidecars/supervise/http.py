"""The few forms of HTTP/1.1 that MCP needs, read strictly and written. Pure: bytes in, values out.

Invariant: a request is taken only if it has exactly one reading and is meant for this server: its Host is
this loopback and its Origin, where a browser sends one, as well, so no page can reach it by a name that it
rebinds.

Rules:
- POST, GET and DELETE of `/mcp`, HTTP/1.1, CRLF line ends, printable ASCII heads of at most 8 KiB.
- A body has a Content-Length of at most 64 KiB. Chunked ones are refused: no client of a few lines of JSON
  sends them.
- A header that decides something stands once or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

PATH = "/mcp"
MAX_HEAD = 8 * 1024
MAX_HEADERS = 64
MAX_BODY = 64 * 1024
MAX_SESSION = 64
METHODS = ("POST", "GET", "DELETE")

_REASONS = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_STRAY = re.compile(rb"[^\t\r\n -~]|(?<!\r)\n|\r(?=[^\n])")
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (\S{1,2048}) HTTP/1\.1")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,9}")
_SESSION = re.compile(rf"[!-~]{{1,{MAX_SESSION}}}")
_ONCE = (
    *("host", "origin", "content-length", "content-type", "transfer-encoding", "expect"),
    *("mcp-session-id", "mcp-protocol-version", "last-event-id"),
)
EVENT_STREAM = "text/event-stream"


class HttpError(Exception):
    """Why a request goes no further. The connection ends with it: what follows may be part of a body."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Request(NamedTuple):
    method: str
    keep: bool  # the client may ask again on this connection
    body: bytes = b""
    session: str = ""
    version: str | None = None
    last_event: str = ""
    streams: bool = False  # it takes an answer as events


class Reader:
    """Takes bytes in pieces of any size, and gives whole requests. Holds no more than one of them needs."""

    def __init__(self, port: int) -> None:
        names = ("127.0.0.1", "localhost")
        self._hosts = {f"{name}:{port}" for name in names}
        self._buffer = bytearray()
        self._looked = 0
        self._head: tuple[Request, int] | None = None

    @property
    def idle(self) -> bool:
        """Nothing of a next request has come yet."""
        return not self._buffer and self._head is None

    @property
    def full(self) -> bool:
        """As much is waiting here as any one request may be long."""
        return len(self._buffer) > MAX_HEAD + MAX_BODY

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Request | None:
        """The next request as soon as it is whole. Raises HttpError."""
        if self._head is None:
            self._head = self._take_head()
        if self._head is None:
            return None
        request, length = self._head
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return request._replace(body=body)

    def _take_head(self) -> tuple[Request, int] | None:
        end = self._buffer.find(b"\r\n\r\n", max(0, self._looked - 3))
        limit = len(self._buffer) if end < 0 else end
        if limit > MAX_HEAD:
            raise HttpError(431, "the head is too long")
        if _STRAY.search(self._buffer, max(0, self._looked - 1), limit):
            raise HttpError(400, "a byte that has no place in a head")
        self._looked = limit
        if end < 0:
            return None
        head = self._buffer[:end].decode("ascii")
        del self._buffer[: end + 4]
        self._looked = 0
        return self._parse(head)

    def _parse(self, head: str) -> tuple[Request, int]:
        first, *lines = head.split("\r\n")
        line = _REQUEST_LINE.fullmatch(first)
        if line is None:
            raise HttpError(400, "no request line of HTTP/1.1")
        method, target = line.groups()
        headers = _headers(lines)
        self._check_sender(headers)
        if target != PATH:
            raise HttpError(404, f"there is only {PATH}")
        if method not in METHODS:
            raise HttpError(405, f"{', '.join(METHODS)} are known")
        length = _length(method, headers)
        session = headers.get("mcp-session-id", "")
        if session and not _SESSION.fullmatch(session):
            raise HttpError(400, "the session's name is not one")
        request = Request(
            method=method,
            keep="close" not in _words(headers.get("connection", "")),
            session=session,
            version=headers.get("mcp-protocol-version"),
            last_event=headers.get("last-event-id", ""),
            streams=EVENT_STREAM in _words(headers.get("accept", "")),
        )
        return request, length

    def _check_sender(self, headers: Mapping[str, str]) -> None:
        if headers.get("host", "").lower() not in self._hosts:
            raise HttpError(421, "the Host is not this server")
        if (origin := headers.get("origin")) is not None:
            scheme, _, rest = origin.lower().partition("://")
            if scheme != "http" or rest not in self._hosts:
                raise HttpError(403, "the Origin is not this server")


def _headers(lines: list[str]) -> dict[str, str]:
    """By lower-case name; lists that came in several lines are joined."""
    if len(lines) > MAX_HEADERS:
        raise HttpError(431, "too many header lines")
    found: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise HttpError(400, "a malformed header line")
        name = header[1].lower()
        if name in found and name in _ONCE:
            raise HttpError(400, "a header that may stand once stands twice")
        found[name] = f"{found[name]}, {header[2]}" if name in found else header[2]
    return found


def _length(method: str, headers: Mapping[str, str]) -> int:
    if "expect" in headers:
        raise HttpError(417, "nothing is expected here")
    if "transfer-encoding" in headers or (method == "POST" and "content-length" not in headers):
        raise HttpError(411, "a body needs a Content-Length")
    text = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(text):
        raise HttpError(400, "the Content-Length is no number")
    length = int(text)
    if length > MAX_BODY:
        raise HttpError(413, f"a body has at most {MAX_BODY} bytes")
    if method != "POST" and length:
        raise HttpError(400, "only POST has a body")
    # A page of another origin may send plain text without being asked for leave first.
    if (
        method == "POST"
        and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json"
    ):
        raise HttpError(415, "a body is application/json")
    return length


def _words(value: str) -> list[str]:
    return [word.partition(";")[0].strip().lower() for word in value.split(",")]


def response(
    status: int, message: Mapping[str, object] | None = None, *, keep: bool, session: str = ""
) -> bytes:
    """A whole answer."""
    body = b"" if message is None else json.dumps(message).encode("ascii")
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    if body:
        lines.append("Content-Type: application/json")
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    if status == 405:
        lines.append(f"Allow: {', '.join(METHODS)}")
    return _head(lines, keep=keep, session=session) + body


def stream_head(*, keep: bool) -> bytes:
    """Events follow, as chunks."""
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {EVENT_STREAM}", "Transfer-Encoding: chunked"]
    return _head(lines, keep=keep)


STREAM_END = b"0\r\n\r\n"


def event(message: Mapping[str, object], ident: str = "") -> bytes:
    """One message as an event. JSON in ASCII has no line break."""
    name = f"id: {ident}\n" if ident else ""
    return _chunk(f"{name}event: message\ndata: {json.dumps(message)}\n\n")


def priming(ident: str) -> bytes:
    """An event without content, after which a client knows from where to go on."""
    return _chunk(f"id: {ident}\ndata:\n\n")


def comment(text: str) -> bytes:
    """Keeps the connection alive, and says nothing to the client."""
    return _chunk(f": {text}\n\n")


def _chunk(text: str) -> bytes:
    data = text.encode("ascii")
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(lines: list[str], *, keep: bool, session: str = "") -> bytes:
    lines += [f"Mcp-Session-Id: {session}"] if session else []
    lines += ["Cache-Control: no-store", f"Connection: {'keep-alive' if keep else 'close'}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
