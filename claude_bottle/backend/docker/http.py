"""The client's side of HTTP/1.1, as far as a container engine speaks it (RFC 9112).

Rules. 1. What comes back is taken only in a form that is known: a status, headers, and a body that says how
long it is. 2. Every part has a limit. 3. Where a connection is asked to become a plain one, nothing that
follows the head is lost: it is the first of what comes on that connection.

No library: `http.client` takes longer to load than `list` takes in all.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_HEAD_BYTES = 64 << 10
_LINE_BYTES = 4 << 10
_CHUNK = 256 << 10
_HEX = frozenset("0123456789abcdefABCDEF")


class WireError(OSError):
    """What came is not HTTP/1.1, was cut off, or is more than was asked for."""


def render(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A whole request, or its head where `headers` say that its body comes in chunks."""
    lines = [f"{method} {target} HTTP/1.1", "Host: engine"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "Transfer-Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line break in the head of a request")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def as_json(body: object) -> tuple[dict[str, str], bytes]:
    """The headers and the bytes of a body; none for None."""
    if body is None:
        return {}, b""
    return {"Content-Type": "application/json"}, json.dumps(body).encode()


class Reply:
    """One answer, read from `receive` (at most so many bytes; none at the end)."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = b""
        version, _, rest = self._line().partition(" ")
        code = rest.partition(" ")[0]
        if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isdecimal()):
            raise WireError("the answer does not begin as HTTP/1.1 does")
        self.status = int(code)
        self.headers = dict(self._headers())

    def _headers(self) -> list[tuple[str, str]]:
        found, size = [], 0
        while line := self._line():
            size += len(line)
            name, colon, value = line.partition(":")
            if not colon or size > _HEAD_BYTES:
                raise WireError("the answer's head is malformed")
            found.append((name.lower(), value.strip()))
        return found

    def body(self, limit: int) -> bytes:
        """All of it. Raises WireError where it is longer."""
        if self.status in (204, 304):
            return b""
        coding = self.headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise WireError("the answer comes in a coding that is not known")
            return self._chunks(limit)
        length = self.headers.get("content-length")
        if length is None:
            return self._to_the_end(limit)
        if not length.isdecimal() or len(length) > 18:
            raise WireError("the answer's length is no number")
        return self._exactly(_within(int(length), limit))

    @property
    def stays_open(self) -> bool:
        """Whether more may be asked on the same connection, once the body has been read."""
        if self._buffer or self.headers.get("connection", "").lower() == "close":
            return False
        return self.status in (204, 304) or bool(
            {"content-length", "transfer-encoding"} & self.headers.keys()
        )

    def rest(self) -> bytes:
        """What came behind the head."""
        rest, self._buffer = self._buffer, b""
        return rest

    def _chunks(self, limit: int) -> bytes:
        found = bytearray()
        while True:
            size = self._line().partition(";")[0].strip(" \t")
            if not size or not _HEX.issuperset(size):  # `int` also takes a sign, a prefix, an underscore
                raise WireError("a chunk's length is no number")
            length = int(size, 16)
            _within(len(found) + length, limit)
            if length == 0:
                self._headers()
                return bytes(found)
            found += self._exactly(length)
            if self._exactly(2) != b"\r\n":
                raise WireError("a chunk is longer than it said")

    def _to_the_end(self, limit: int) -> bytes:
        found, data = bytearray(), self.rest()
        while data or (data := self._receive(_CHUNK)):
            found += data
            _within(len(found), limit)
            data = b""
        return bytes(found)

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _HEAD_BYTES:
                raise WireError("a line of the answer has no end")
            self._more(_LINE_BYTES)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r").decode("latin-1")

    def _exactly(self, count: int) -> bytes:
        parts, missing = [self._buffer[:count]], count - len(self._buffer)
        self._buffer = self._buffer[count:]
        while missing > 0:
            data = self._receive(min(missing, _CHUNK))
            if not data:
                raise WireError("the answer was cut off")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _more(self, count: int) -> None:
        data = self._receive(count)
        if not data:
            raise WireError("the answer was cut off" if self._buffer else "there was no answer")
        self._buffer += data


def _within(length: int, limit: int) -> int:
    if length > limit:
        raise WireError(f"the answer is longer than {limit >> 20} MiB")
    return length
