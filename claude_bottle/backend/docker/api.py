"""The engine's own interface: HTTP over its socket, or through its client where it is elsewhere.

Invariant: an answer that says no, or says nothing in time, is an EngineError; none is taken for another.
Source: the Docker Engine API, versions 1.41 (engine 20.10) to 1.51; an engine is asked in the newest of them
that it knows.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from contextlib import closing

from claude_bottle.backend.docker.http import Reply, WireError, as_json, render
from claude_bottle.errors import BottleError
from claude_bottle.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Protocol

    class Engine(Protocol):
        """What is asked of an engine. The real one is `SystemEngine`. All raise EngineError."""

        def ask(
            self,
            method: str,
            path: str,
            body: object = None,
            *,
            query: Mapping[str, object] | None = None,
            limit: int = 64 << 20,
            timeout: float = 60.0,
        ) -> bytes:
            """The answer's body. `query`: a value that is no text is sent as JSON.

            `timeout` in seconds, for all of the answer.
            """
            ...

        def send(
            self, path: str, write: Callable[[Writer], None], *, query: Mapping[str, object] | None = None
        ) -> None:
            """A body of any length, as `write` writes it."""
            ...

        def converse(self, path: str, body: object = None) -> Line:
            """A connection that carries plain bytes both ways from here on."""
            ...

    Writer = Callable[[bytes], object]

_NEWEST = (1, 51)
_SECONDS = 60.0
_PING_SECONDS = 10.0
_WORDS_BYTES = 64 << 10
_IDENTITY = frozenset("0123456789abcdef")


class EngineError(BottleError):
    """`status` is the engine's own (404: there is no such thing; 409: its state forbids it), 0 for none."""

    def __init__(self, message: str, status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.status = status


class Line:
    """A connection to the engine, direct or through a process of its client."""

    def __init__(self, sock: socket.socket, process: int = 0, words: int = -1, early: bytes = b"") -> None:
        self.sock = sock
        self.early = early  # what came behind the head of the answer
        self._process = process
        self._words = words  # what the client complains of

    @property
    def is_dear(self) -> bool:
        """It took a process, and perhaps a login far away."""
        return self._process != 0

    def complaint(self) -> str:
        """The last that the client has said; empty where there is none."""
        if self._words < 0:
            return ""
        lines = os.pread(self._words, _WORDS_BYTES, 0).decode(errors="replace").strip().splitlines()
        return shown(lines[-1]) if lines else ""

    def close(self) -> None:
        self.sock.close()
        if self._words >= 0:
            os.close(self._words)
            self._words = -1
        if self._process:
            os.kill(self._process, signal.SIGKILL)  # not reaped yet, so it is still this one
            os.waitpid(self._process, 0)
            self._process = 0


def dial(endpoint: str, environment: Mapping[str, str]) -> Line:
    """Raises OSError. What is not a socket of this host, the engine's client knows how to reach."""
    scheme, _, path = endpoint.partition("://")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_SECONDS)
            sock.connect(path)
        except BaseException:
            sock.close()
            raise
        return Line(sock)
    ours, theirs = socket.socketpair()
    words = os.memfd_create("words")
    try:
        with theirs:
            streams = ((theirs.fileno(), 0), (theirs.fileno(), 1), (words, 2))
            actions = [(os.POSIX_SPAWN_DUP2, given, number) for given, number in streams]
            process = os.posix_spawnp(
                "docker",
                ["docker", "system", "dial-stdio"],
                environment,
                file_actions=actions,
                setsid=True,
            )
    except BaseException:
        ours.close()
        os.close(words)
        raise
    ours.settimeout(_SECONDS)
    return Line(ours, process, words)


class SystemEngine:
    """`connect` makes a new connection; each question has one to itself, so threads may ask at once."""

    def __init__(self, connect: Callable[[], Line]) -> None:
        self._connect = connect
        self._idle: list[Line] = []
        self._prefix = ""

    def ping(self) -> Mapping[str, str]:
        """The headers of the shortest of answers; among them which versions it speaks."""
        with closing(self._open()) as line:
            line.sock.settimeout(min(_PING_SECONDS, line.sock.gettimeout() or _PING_SECONDS))
            reply = self._exchange(line, render("GET", "/_ping", {}))
            if reply.status != 200:
                raise EngineError(f"the engine answers {reply.status}", reply.status)
        version = _version(reply.headers.get("api-version", ""))
        self._prefix = "/v{}.{}".format(*min(version, _NEWEST))
        return reply.headers

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        limit: int = 64 << 20,
        timeout: float = _SECONDS,
    ) -> bytes:
        headers, content = as_json(body)
        request = render(method, self._target(path, query), headers, content)
        line = self._idle_line() or self._open()
        try:
            line.sock.settimeout(timeout)
            reply = self._exchange(line, request)
            body = _taken(reply, limit)
        except BaseException:
            line.close()
            raise
        if line.is_dear and reply.stays_open:
            self._idle.append(line)
        else:
            line.close()
        return body

    def _idle_line(self) -> Line | None:
        """One that has been asked before, and at whose end nobody has spoken or left since."""
        while True:
            try:
                line = self._idle.pop()
            except IndexError:
                return None
            if not select.select([line.sock], [], [], 0)[0]:
                return line
            line.close()

    def close(self) -> None:
        """Ends the connections that nobody uses; there will be new ones where more is asked."""
        while (line := self._idle_line()) is not None:
            line.close()

    def send(
        self, path: str, write: Callable[[Writer], None], *, query: Mapping[str, object] | None = None
    ) -> None:
        headers = {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        request = render("PUT", self._target(path, query), headers)
        with closing(self._open()) as line:
            try:
                line.sock.sendall(request)
                write(lambda data: line.sock.sendall(b"%x\r\n%b\r\n" % (len(data), data)) if data else None)
                line.sock.sendall(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has heard enough, and says why
            except TimeoutError as error:
                raise EngineError(f"the engine does not take what is sent: {error}") from error
            _taken(_heard(line), 1 << 20)

    def converse(self, path: str, body: object = None) -> Line:
        headers, content = as_json(body)
        headers |= {"Connection": "Upgrade", "Upgrade": "tcp"}
        request = render("POST", self._target(path), headers, content)
        line = self._open()
        try:
            reply = self._exchange(line, request)
            if reply.status not in (101, 200):
                _taken(reply, 1 << 20)
                raise EngineError(f"the engine answers {reply.status}", reply.status)
            line.early = reply.rest()
            line.sock.settimeout(None)
        except BaseException:
            line.close()
            raise
        return line

    def _target(self, path: str, query: Mapping[str, object] | None = None) -> str:
        from urllib.parse import urlencode

        if not self._prefix:
            self.ping()
        words = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in (query or {}).items()
        }
        return f"{self._prefix}{path}" + (f"?{urlencode(words)}" if words else "")

    def _open(self) -> Line:
        try:
            return self._connect()
        except OSError as error:
            raise EngineError(f"the engine does not answer: {error.strerror or error}") from error

    def _exchange(self, line: Line, request: bytes) -> Reply:
        try:
            line.sock.sendall(request)
        except OSError as error:
            raise EngineError(f"the engine does not answer: {line.complaint() or error}") from error
        return _heard(line)


def _heard(line: Line) -> Reply:
    """It has as long as the socket's time limit, however many pieces it comes in."""
    deadline = time.monotonic() + (line.sock.gettimeout() or _SECONDS)

    def receive(count: int) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        line.sock.settimeout(left)
        return line.sock.recv(count)

    try:
        return Reply(receive)
    except OSError as error:
        raise EngineError(f"the engine does not answer: {line.complaint() or error}") from error


def _taken(reply: Reply, limit: int) -> bytes:
    if reply.status < 200:
        raise EngineError(f"the engine answers {reply.status}", reply.status)
    try:
        body = reply.body(limit)
    except OSError as error:
        raise EngineError(f"the engine's answer is of no use: {error}") from error
    if reply.status >= 300:
        raise EngineError(_message(body) or f"the engine answers {reply.status}", reply.status)
    return body


def _message(body: bytes) -> str:
    try:
        return shown(str(json.loads(body)["message"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        raise EngineError("the engine does not say which version of its interface it speaks")
    return tuple(map(int, parts))


def parsed(body: bytes) -> Any:
    """Raises EngineError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EngineError("the engine answers in a form that is not known") from error


def identity(body: bytes) -> str:
    """What the engine calls that which it has just made. Raises EngineError."""
    made = parsed(body)
    found = made.get("Id") if isinstance(made, dict) else None
    if not isinstance(found, str) or not found or not _IDENTITY.issuperset(found):
        raise EngineError("the engine names what it made in a form that is not known")
    return found


def outputs(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Whole pieces of a container's output, taken off `buffer`: (1 or 2, bytes). Raises WireError.

    Source: "Stream format" of the API's `attach`.
    """
    while len(buffer) >= 8:
        length = int.from_bytes(buffer[4:8], "big")
        if buffer[0] not in (1, 2) or buffer[1:4] != b"\0\0\0" or length > 16 << 20:
            raise WireError("output in a form that is not known")
        if len(buffer) < 8 + length:
            return
        piece = bytes(buffer[8 : 8 + length])
        kind = buffer[0]
        del buffer[: 8 + length]
        yield kind, piece
