"""Servers of the host that a bottle must not reach, and the one that it may: each remembers who came."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Listeners:
    """What listens, by name, and the names of those that somebody reached."""

    ports: dict[str, int] = field(default_factory=dict)
    abstract: str = ""
    reached: list[str] = field(default_factory=list)


@contextmanager
def host_listeners(name: str) -> Iterator[Listeners]:
    """TCP and UDP on loopback and on all addresses, and an abstract unix socket; `name` is the socket's."""
    found = Listeners(abstract=name)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for label, family, kind, address in (
            ("tcp-loopback", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            ("tcp-everywhere", socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)),
            ("tcp-six", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            ("udp-loopback", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            ("udp-everywhere", socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 0)),
            ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + name),
        ):
            sock = stack.enter_context(socket.socket(family, kind))
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen()
            if family != socket.AF_UNIX:
                found.ports[label] = sock.getsockname()[1]
            selector.register(sock, selectors.EVENT_READ, label)
        over, stop = map(stack.enter_context, socket.socketpair())
        selector.register(over, selectors.EVENT_READ)
        watcher = threading.Thread(target=_watch, args=(selector, name.encode(), found.reached))
        watcher.start()
        try:
            yield found
        finally:
            # Before they are closed: their numbers will be those of other sockets, which it must not accept.
            stop.shutdown(socket.SHUT_RDWR)
            watcher.join()


def _watch(selector: selectors.BaseSelector, password: bytes, reached: list[str]) -> None:
    """Until the test is over. Who does not say the password is somebody else of this host."""
    while True:
        for key, _ in selector.select():
            if key.data is None:
                return
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if _said(sock) == password:
                reached.append(key.data)


def _said(sock: socket.socket) -> bytes:
    try:
        if sock.type == socket.SOCK_DGRAM:
            return sock.recv(100)
        with sock.accept()[0] as caller:
            caller.settimeout(2)
            return caller.recv(100)
    except OSError:
        return b""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived outside."""

    line: str
    headers: dict[str, str]


class Upstream:
    """A plain HTTP server on loopback that answers everything with 200, but what ends in /slow never to the end."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        seen, over = self.requests, threading.Event()
        self._over = over

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(
                    Seen(self.requestline, {key.lower(): value for key, value in self.headers.items()})
                )
                self.send_response(200)
                if self.path.endswith("/slow"):
                    self.end_headers()
                    self.wfile.write(b"begun\n")
                    over.wait()
                    return
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
