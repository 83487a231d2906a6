"""An engine that answers by a script, each on a socket of its own: honest ones, hostile ones, and those that do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.docker.api import Line, SystemEngine

PATIENCE = 15.0  # seconds until what must happen counts as not happening
CHUNKED_END = b"0\r\n\r\n"


class Asked(NamedTuple):
    """One request, as it stood on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


Script = bytes | Callable[[socket.socket], object]


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + CHUNKED_END


def ping(version: str = "1.45", *headers: str) -> bytes:
    return answer(b"OK", "200 OK", f"Api-Version: {version}", *headers)


def upgraded(early: bytes = b"", status: str = "101 UPGRADED") -> bytes:
    return f"HTTP/1.1 {status}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode() + early


def read_request(sock: socket.socket) -> Asked:
    """Raises ConnectionError where it is cut off."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        buffer += _more(sock)
    head, _, body = buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    assert version == "HTTP/1.1"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(headers) == len(lines)
    if headers.get("transfer-encoding") == "chunked":
        while not body.endswith(CHUNKED_END):
            body += _more(sock)
        return Asked(method, target, headers, unchunked(body))
    while len(body) < int(headers["content-length"]):
        body += _more(sock)
    return Asked(method, target, headers, body)


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise ConnectionError("the request was cut off")
    return data


def unchunked(data: bytes) -> bytes:
    found = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        found, end, data = found + data[:length], data[length : length + 2], data[length + 2 :]
        assert end == b"\r\n"
        if length == 0:
            return found


def writes(*pieces: bytes) -> Callable[[Callable[[bytes], object]], None]:
    """What writes them, for an engine's `send`."""

    def write_all(write: Callable[[bytes], object]) -> None:
        for piece in pieces:
            write(piece)

    return write_all


class Scripted:
    """Each new connection plays the next script: bytes answer what was asked, a function has it all to itself."""

    def __init__(self, *scripts: Script, patience: float = PATIENCE) -> None:
        self._left = list(scripts)
        self._patience = patience
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.asked: list[Asked] = []
        self.cut_off = 0  # requests that ended before their end

    def connect(self) -> Line:
        ours, theirs = socket.socketpair()
        ours.settimeout(self._patience)
        self.serve(theirs)
        return Line(ours)

    def serve(self, sock: socket.socket) -> None:
        with self._lock:
            script = self._left.pop(0)
        sock.settimeout(PATIENCE)
        thread = threading.Thread(target=self._play, args=(sock, script))
        thread.start()
        self._threads.append(thread)

    def _play(self, sock: socket.socket, script: Script) -> None:
        with sock, suppress(BrokenPipeError, ConnectionResetError):
            if callable(script):
                script(sock)
                return
            try:
                asked = read_request(sock)
            except ConnectionError:
                self.cut_off += 1
                return
            with self._lock:
                self.asked.append(asked)
            sock.sendall(script)

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()
        assert not self._left, f"{len(self._left)} connections were never made"


@contextmanager
def scripted(*scripts: Script, patience: float = PATIENCE) -> Iterator[tuple[SystemEngine, Scripted]]:
    """The client, and the engine that it talks to. A test's failure comes before what was not asked."""
    server = Scripted(*scripts, patience=patience)
    try:
        yield SystemEngine(server.connect), server
    except BaseException:
        server._left.clear()
        raise
    finally:
        server.finish()


@contextmanager
def listening(path: Path, *scripts: Script) -> Iterator[Scripted]:
    """On a socket in the file system, for whoever connects."""
    server = Scripted(*scripts)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(PATIENCE)

        def accept() -> None:
            for _ in scripts:
                try:
                    connection, _ = listener.accept()
                except OSError:  # the test is over
                    return
                server.serve(connection)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        except BaseException:
            server._left.clear()
            raise
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            server.finish()


def silent(sock: socket.socket) -> None:
    """Takes all that is sent, and says nothing until the other side has gone."""
    while sock.recv(1 << 16):
        pass
