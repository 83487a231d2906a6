"""The near end of the traffic benchmarks, as a process of its own: it loads one way and says how it went.

A way is direct, or through a gate by CONNECT; with TLS all along, or with a client's hello alone and then in
the clear. Both ways of a pair are treated alike: no connection or TLS session outlives its question.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from contextlib import suppress
from functools import cache
from typing import Any

from bench.children import serve

_SECONDS = 20.0
_BODY = b"q" * 1024
_EVENT = re.compile(rb"data: (\d+)\n")

Way = dict[str, Any]  # "gate": port or None, "host", "port", "authority": a file, or None for no TLS


def measure(question: dict[str, Any]) -> dict[str, Any]:
    do, way = question["do"], question["way"]
    if do == "bulk":
        return {"value": bulk(way, question["bytes"])}
    if do == "keepalive":
        return {"value": keepalive(way, question["seconds"])}
    if do == "connect":
        return {"value": connects(way, question["seconds"])}
    return {"values": events(way, question["events"])}


def bulk(way: Way, size: int) -> float:
    """Megabytes a second, from the request to the last byte."""
    with open_way(way) as sock:
        buffer = memoryview(bytearray(256 * 1024))
        began = time.perf_counter()
        sock.sendall(_request(way, b"GET", b"/bulk/%d" % size))
        _, rest = _head(sock)
        left = size - len(rest)
        while left > 0:
            count = sock.recv_into(buffer)
            if not count:
                raise OSError("the transfer broke off")
            left -= count
        return size / 1e6 / (time.perf_counter() - began)


def keepalive(way: Way, seconds: float) -> float:
    """Requests a second of 1 KB there and 1 KB back, one after the other on one connection."""
    with open_way(way) as sock:
        request = _request(way, b"POST", b"/v1/messages", _BODY)
        exchange(sock, request)
        count, began = 0, time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            exchange(sock, request)
            count += 1
        return count / (now - began)


def connects(way: Way, seconds: float) -> float:
    """New connections a second, one after the other: opened, one exchange of 1 KB, closed."""
    request = _request(way, b"POST", b"/v1/messages", _BODY)
    count, began = 0, time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        with open_way(way) as sock:
            exchange(sock, request)
        count += 1
    return count / (now - began)


def events(way: Way, number: int) -> list[float]:
    """Milliseconds from the sending of each event to its arrival."""
    with open_way(way) as sock:
        sock.sendall(_request(way, b"GET", b"/events/%d" % number))
        delays: list[float] = []
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            part = sock.recv(65536)
            now = time.monotonic_ns()
            if not part:
                break
            data += part
            while found := _EVENT.search(data):
                delays.append((now - int(found.group(1))) / 1e6)
                data = data[found.end() :]
        if len(delays) != number:
            raise OSError(f"{len(delays)} events of {number} came")
        return delays


def open_way(way: Way) -> socket.socket:
    """A connection over which HTTP can be spoken. Raises OSError."""
    sock = socket.create_connection(("127.0.0.1", way["gate"] or way["port"]), timeout=_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if way["gate"] is not None:
        name = b"%s:443" % way["host"].encode()
        sock.sendall(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (name, name))
        head, _ = _head(sock)
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(f"the gate answered {head[:200]!r}")
    if way["authority"] is not None:
        return context_for(way["authority"]).wrap_socket(sock, server_hostname=way["host"])
    sock.sendall(hello_for(way["host"]))
    return sock


@cache
def context_for(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["http/1.1"])
    return context


@cache
def hello_for(host: str) -> bytes:
    """What a real TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def exchange(sock: socket.socket, request: bytes) -> None:
    sock.sendall(request)
    head, rest = _head(sock)
    left = _length(head) - len(rest)
    while left > 0:
        data = sock.recv(65536)
        if not data:
            raise OSError("the answer broke off")
        left -= len(data)


def _request(way: Way, method: bytes, path: bytes, body: bytes = b"") -> bytes:
    fields = b"Host: %s\r\nContent-Length: %d\r\n" % (way["host"].encode(), len(body))
    return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, path, fields, body)


def _head(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            raise OSError(f"the connection ended after {data[:100]!r}")
        data += part
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _length(head: bytes) -> int:
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(f"the answer was {head[:200]!r}")
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])


if __name__ == "__main__":
    serve(measure)
