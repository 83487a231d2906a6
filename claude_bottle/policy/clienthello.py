"""Reads the first flight of a TLS client: which server it names, and whether it hides another.

Invariant: a hello is judged only as a whole, and only if it has exactly one reading. Whatever two
parsers could take differently (a repeated extension, two names, bytes after the message in its own
record, a length that does not add up) is refused, so what is checked here is what the server sees.

Rules:
- The hello may span several records, and arrive in pieces of any size; it is at most 64 KiB long.
- Bytes that do not begin as a TLS handshake are "not-tls", and are told from the first byte on.
- What follows the hello's last record (early data) is not looked at; the caller has the bytes.
- Names come out as sent, save for case: nothing is guessed, trimmed or decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_HELLO = 64 * 1024

# Fatal alerts that tell a TLS client in its own words why it was hung up on.
ALERT_ACCESS_DENIED = b"\x15\x03\x01\x00\x02\x02\x31"
ALERT_UNRECOGNIZED_NAME = b"\x15\x03\x01\x00\x02\x02\x70"

_HANDSHAKE = 0x16
_CLIENT_HELLO = 0x01
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_MAX_RECORD = 1 << 14
_SERVER_NAME = 0x0000
# encrypted_client_hello, the code points of its drafts, and encrypted_server_name before it
_ENCRYPTED_NAME = frozenset({0xFE0D, 0xFE08, 0xFE09, 0xFE0A, 0xFE0B, 0xFE0C, 0xFFCE})


class HelloError(ValueError):
    """The bytes are no ClientHello that can be judged. `reason` is a stable kebab-case word."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ClientHello(NamedTuple):
    """What a hello says about where it wants to go."""

    sni: str | None  # lower case; None where the extension is absent
    encrypted_name: bool  # offers another name that only the server can read


class HelloReader:
    """Takes bytes in pieces of any size; `feed` answers with the hello once it is complete.

    The work is linear in the bytes fed, however they are cut.
    """

    def __init__(self) -> None:
        self._records = bytearray()
        self._message = bytearray()
        self._taken = 0  # bytes of whole records, headers included

    def feed(self, data: bytes) -> ClientHello | None:
        """Raise `HelloError` as soon as the bytes cannot become a hello."""
        self._records += data
        while self._next_record():
            hello = self._complete()
            if hello is not None:
                return hello
        return None

    def _next_record(self) -> bool:
        """Move one whole record from the records to the message; False if it is not all there."""
        head = self._records[:_RECORD_HEADER]
        if head and head[0] != _HANDSHAKE:
            raise _malformed("a record that is no handshake") if self._message else _not_tls()
        if len(head) > 1 and head[1] != 3:
            raise _not_tls()
        if len(head) < _RECORD_HEADER:
            return False
        length = int.from_bytes(head[3:5], "big")
        if not 0 < length <= _MAX_RECORD:
            raise _malformed("a record of no possible length")
        end = _RECORD_HEADER + length
        if len(self._records) < end:
            self._check_kind(self._records[_RECORD_HEADER : _RECORD_HEADER + 1])
            return False
        self._taken += end
        if self._taken > MAX_HELLO:
            raise _too_large()
        self._message += self._records[_RECORD_HEADER:end]
        del self._records[:end]
        return True

    def _check_kind(self, start: bytes | bytearray) -> None:
        if not self._message and start and start[0] != _CLIENT_HELLO:
            raise _malformed("a handshake that does not begin with a ClientHello")

    def _complete(self) -> ClientHello | None:
        self._check_kind(self._message[:1])
        if len(self._message) < _MESSAGE_HEADER:
            return None
        end = _MESSAGE_HEADER + int.from_bytes(self._message[1:4], "big")
        if end > MAX_HELLO:
            raise _too_large()
        if len(self._message) < end:
            return None
        if len(self._message) > end:
            raise _malformed("bytes after the ClientHello in its record")
        return _parse_body(bytes(self._message[_MESSAGE_HEADER:]))


def _parse_body(body: bytes) -> ClientHello:
    fields = _Fields(body)
    if fields.take(2)[0] != 3:
        raise _malformed("an unknown protocol version")
    fields.take(32)  # random
    if len(fields.vector(1)) > 32:
        raise _malformed("a session id that is too long")
    suites = fields.vector(2)
    if not suites or len(suites) % 2:
        raise _malformed("no list of cipher suites")
    if not fields.vector(1):
        raise _malformed("no list of compression methods")
    extensions = dict(_extensions(fields))
    name = extensions.get(_SERVER_NAME)
    return ClientHello(
        sni=None if name is None else _server_name(name),
        encrypted_name=not _ENCRYPTED_NAME.isdisjoint(extensions),
    )


def _extensions(fields: _Fields) -> Iterator[tuple[int, bytes]]:
    if fields.done():
        return  # allowed before TLS 1.3: such a hello names no server
    block = _Fields(fields.vector(2))
    fields.expect_done()
    seen = set()
    while not block.done():
        kind = int.from_bytes(block.take(2), "big")
        if kind in seen:
            raise _malformed("an extension sent twice")
        seen.add(kind)
        yield kind, block.vector(2)


def _server_name(extension: bytes) -> str:
    fields = _Fields(extension)
    names = _Fields(fields.vector(2))
    fields.expect_done()
    if names.take(1) != b"\x00":
        raise _malformed("a server name of an unknown kind")
    name = names.vector(2)
    names.expect_done()
    if not 0 < len(name) <= 255 or not all(0x21 <= byte <= 0x7E for byte in name):
        raise _malformed("a server name that is no host name")
    return name.decode("ascii").lower()


class _Fields:
    """A cursor over length-prefixed fields; running past the end is an error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise _malformed("a length that points past the end")
        return self._data[start : self._at]

    def vector(self, width: int) -> bytes:
        return self.take(int.from_bytes(self.take(width), "big"))

    def done(self) -> bool:
        return self._at == len(self._data)

    def expect_done(self) -> None:
        if not self.done():
            raise _malformed("a length that leaves bytes over")


def _not_tls() -> HelloError:
    return HelloError("not-tls", "the tunnel does not begin with TLS")


def _too_large() -> HelloError:
    return HelloError("hello-too-large", f"a ClientHello of more than {MAX_HELLO} bytes")


def _malformed(detail: str) -> HelloError:
    return HelloError("hello-malformed", detail)
