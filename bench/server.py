"""The far end of the traffic benchmarks, as a process of its own: as little HTTP/1.1 as will do, on loopback.

`/bulk/N` answers N bytes, `/events/N` sends N events that hold the moment of their sending, any other path
gets 1 KB back, whatever its body was. A listener either speaks TLS all along, or reads one TLS record (a
client's hello, which the gate insists on) and goes on in the clear: then the gate's cost stands alone.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from typing import Any

from bench.children import serve

ANSWER_BYTES = 1024
_CHUNK = memoryview(bytes(256 * 1024))
_EVENT_SECONDS = 0.004
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_KILOBYTE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (ANSWER_BYTES, b"k" * ANSWER_BYTES)
_EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def listen(question: dict[str, Any]) -> dict[str, Any]:
    """A new listener: with TLS by the certificate file that is named, or without."""
    context = None
    if question["certificate"] is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(question["certificate"])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
    return {"port": listener.getsockname()[1]}


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_connection, args=(sock, context), daemon=True).start()


def _connection(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        else:
            _skip_record(sock)
        with sock:
            _requests(sock)
    except OSError:
        pass  # a client that hangs up has said all it wanted


def _skip_record(sock: socket.socket) -> None:
    head = sock.recv(5, socket.MSG_WAITALL)
    sock.recv(int.from_bytes(head[3:5], "big"), socket.MSG_WAITALL)


def _requests(sock: socket.socket) -> None:
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            data = sock.recv(65536)
            if not data:
                return
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = int(length.group(1)) if length else 0
        while len(buffer) < body:
            buffer += sock.recv(65536)
        buffer = buffer[body:]
        _answer(sock, head.split(b" ", 2)[1].split(b"/"))


def _answer(sock: socket.socket, path: list[bytes]) -> None:
    if path[1] == b"bulk":
        left = int(path[2])
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % left)
        while left:
            left -= len(part := _CHUNK[: min(left, len(_CHUNK))])
            sock.sendall(part)
    elif path[1] == b"events":
        sock.sendall(_EVENTS)
        for _ in range(int(path[2])):
            time.sleep(_EVENT_SECONDS)
            event = b"data: %d\n\n" % time.monotonic_ns()
            sock.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        sock.sendall(b"0\r\n\r\n")
    else:
        sock.sendall(_KILOBYTE)


if __name__ == "__main__":
    serve(listen)
