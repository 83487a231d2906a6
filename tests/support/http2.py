"""HTTP/2 as bytes, for requests that no well-behaved client sends."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
Fields = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(text: bytes) -> bytes:
    assert len(text) < 127
    return bytes((len(text),)) + text


def headers(fields: Fields, stream: int) -> bytes:
    """A request without a body, every field as a literal that is new to the table and not indexed."""
    block = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in fields)
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


def opening() -> bytes:
    return PREFACE + frame(SETTINGS, 0, 0)


def get(host: str, path: str, stream: int) -> bytes:
    named = {"method": "GET", "scheme": "https", "authority": host, "path": path}
    return headers([(f":{name}".encode(), value.encode()) for name, value in named.items()], stream)
