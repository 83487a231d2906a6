"""The scripted model's server: the Messages API over plain HTTP/1.1 on loopback.

Invariant: every request is answered, whatever it holds, and what is said comes from `script.advance`
alone; the server only remembers what it saw (requests, failures, turns said) for the test to read.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from claude_bottle.scripted.script import Reply, Script, advance

MAX_BODY: Final = 64 << 20
MAX_REQUESTS: Final = 10_000
IDLE_SECONDS: Final = 600.0
MODELS: Final = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
WORD_CHUNK: Final = 24  # characters of a text in one delta


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came. `body` is the parsed JSON, or None; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, object] | None


class ScriptedModel:
    """A context manager that serves a script; what it saw can be read while it runs and after."""

    def __init__(self, script: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        self.script = script
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._failures: dict[str, None] = {}
        self._said: set[int] = set()
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        host = str(self._server.server_address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def requests(self) -> tuple[Request, ...]:
        with self._lock:
            return tuple(self._requests)

    @property
    def failures(self) -> tuple[str, ...]:
        """Unmet expectations, each once however often the request was retried."""
        with self._lock:
            return tuple(self._failures)

    @property
    def finished(self) -> bool:
        """Whether every turn was said."""
        with self._lock:
            return len(self._said) == len(self.script.turns)

    def record(self, request: Request) -> bool:
        """Keep a request; False when there are too many of them."""
        with self._lock:
            if len(self._requests) >= MAX_REQUESTS:
                self._failures[f"more than {MAX_REQUESTS} requests"] = None
                return False
            self._requests.append(request)
            return True

    def answer(self, body: Mapping[str, object], headers: Mapping[str, str]) -> Reply:
        reply = advance(self.script, body, headers)
        with self._lock:
            self._failures.update(dict.fromkeys(reply.failures))
        return reply

    def was_said(self, reply: Reply) -> None:
        if reply.turn is not None:
            with self._lock:
                self._said.add(reply.turn)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an idle keep-alive connection must not hold the end back

    def __init__(self, address: tuple[str, int], model: ScriptedModel) -> None:
        self.model = model
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error; any other is a bug and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_OPTIONS(self) -> None:
        self._serve()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server itself refuses is JSON too."""
        self.close_connection = True
        self._error(HTTPStatus(code), "invalid_request_error", message or "")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Quiet: what came is in `ScriptedModel.requests`."""

    def _serve(self) -> None:
        raw = self._body()
        if raw is None:
            return
        request = Request(self.command, self.path, _lower(self.headers.items()), _object(raw))
        if not self.server.model.record(request):
            self._error(HTTPStatus.SERVICE_UNAVAILABLE, "api_error", "too many requests")
            return
        path = self.path.split("?", 1)[0]
        if self.command == "POST" and path in ("/v1/messages", "/v1/messages/count_tokens"):
            if request.body is None:
                self._error(HTTPStatus.BAD_REQUEST, "invalid_request_error", "the body is no JSON object")
            elif path == "/v1/messages":
                self._message(request, request.body)
            else:
                self._json(HTTPStatus.OK, {"input_tokens": _tokens(raw)})
        elif self.command == "GET" and path == "/v1/models":
            self._json(HTTPStatus.OK, _models())
        elif self.command in ("GET", "HEAD") and path == "/":
            self._json(HTTPStatus.OK, {"ok": True})
        else:
            self._error(HTTPStatus.NOT_FOUND, "not_found_error", f"{self.command} {path} is not served")

    def _body(self) -> bytes | None:
        """The whole body, or None when it was refused (the connection then closes)."""
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self._error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "request_too_large", "body not accepted")
            return None
        return self.rfile.read(int(length))

    def _message(self, request: Request, body: Mapping[str, object]) -> None:
        model = self.server.model
        reply = model.answer(body, request.headers)
        message = whole_message(reply, str(body.get("model", "")), _tokens(body))
        if body.get("stream") is True:
            self._stream(reply, message)
        else:
            model.was_said(reply)
            self._json(HTTPStatus.OK, message)

    def _stream(self, reply: Reply, message: Mapping[str, object]) -> None:
        self._head(HTTPStatus.OK, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for event in message_events(reply, message):
            if reply.delay_ms:
                time.sleep(reply.delay_ms / 1000)
            if event["type"] == "message_stop":  # before it is sent: who has it may ask at once
                self.server.model.was_said(reply)
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _json(self, status: HTTPStatus, body: Mapping[str, object]) -> None:
        data = json.dumps(body).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: HTTPStatus, kind: str, message: str) -> None:
        self._json(status, {"type": "error", "error": {"type": kind, "message": message}})

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("request-id", f"req_{uuid.uuid4().hex}")
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def whole_message(reply: Reply, model: str, tokens: int) -> dict[str, object]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(reply.blocks),
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": tokens, "output_tokens": _tokens(reply.blocks)},
    }


def message_events(reply: Reply, whole: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The same message as a stream of events, texts and tool inputs in pieces."""
    yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    for index, block in enumerate(reply.blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _empty(block)}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": reply.stop_reason, "stop_sequence": None},
        "usage": whole["usage"],
    }
    yield {"type": "message_stop"}


def _empty(block: Mapping[str, object]) -> dict[str, object]:
    return {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}


def _deltas(block: Mapping[str, object]) -> Iterator[dict[str, object]]:
    if block["type"] == "text":
        kind, key, text = "text_delta", "text", str(block["text"])
    else:
        kind, key, text = "input_json_delta", "partial_json", json.dumps(block["input"])
    for start in range(0, len(text), WORD_CHUNK):
        yield {"type": kind, key: text[start : start + WORD_CHUNK]}


def _models() -> dict[str, object]:
    data = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
        for name in MODELS
    ]
    return {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}


def _object(raw: bytes) -> Mapping[str, object] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return MappingProxyType(value) if isinstance(value, dict) else None


def _lower(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    return MappingProxyType({name.lower(): value for name, value in headers})


def _tokens(value: object) -> int:
    """A rough count, never zero: what Claude Code shows as tokens and cost."""
    size = len(value) if isinstance(value, bytes) else len(json.dumps(value, default=dict))
    return size // 4 + 1
