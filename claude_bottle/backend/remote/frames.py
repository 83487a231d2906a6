"""What a caller and a program elsewhere say to each other over one stream of bytes each way. Pure.

A frame is a letter, a length of four bytes, and that many bytes. Outwards: OUT and ERR carry what the
program writes, CREDIT how much input it has taken since, STATUS (the last) how it ended, or AGAIN in its
place that it goes on elsewhere. Inwards: DATA and END are its input, SIGNAL a number, WINDOW its terminal's
rows and columns.

Rule: whoever sends DATA has at most WINDOW_BYTES under way that no CREDIT has acknowledged, so that a signal
never waits behind input that nobody reads.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # as `typing` has it, which takes longer to load than all of this
if TYPE_CHECKING:
    from collections.abc import Iterator

OUT, ERR, CREDIT, STATUS, AGAIN = b"o", b"e", b"c", b"x", b"a"
DATA, END, SIGNAL, WINDOW = b"d", b"z", b"s", b"w"
WINDOW_BYTES = 256 << 10
MAX_PAYLOAD = 64 << 10
_HEAD = struct.Struct(">cI")
_NUMBER = struct.Struct(">I")


class BadFrame(ValueError):
    """Bytes that no honest other side sends."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


def numbered(kind: bytes, *numbers: int) -> bytes:
    return frame(kind, b"".join(map(_NUMBER.pack, numbers)))


def numbers(payload: bytes, count: int) -> tuple[int, ...]:
    """Raises BadFrame."""
    if len(payload) != count * _NUMBER.size:
        raise BadFrame(f"{len(payload)} bytes where {count} numbers were due")
    return tuple(value for (value,) in _NUMBER.iter_unpack(payload))


class Decoder:
    """Whole frames of bytes that come in any pieces. `known` are the kinds that the other side may send."""

    def __init__(self, known: frozenset[bytes]) -> None:
        self._known = known
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Raises BadFrame."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._buffer)
            if kind not in self._known or length > MAX_PAYLOAD:
                raise BadFrame(f"a frame of kind {kind!r} and {length} bytes")
            whole = _HEAD.size + length
            if len(self._buffer) < whole:
                return
            payload = bytes(self._buffer[_HEAD.size : whole])
            del self._buffer[:whole]
            yield kind, payload
