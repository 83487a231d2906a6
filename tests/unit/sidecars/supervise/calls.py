"""Requests to the sidecar on a real socket, and clients that send them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from claude_bottle.sidecars.supervise.connection import Limits
from tests.support.desks import Sidecar
from tests.support.processes import eventually

QUICK = Limits(connections=16, request_seconds=1.0, idle_seconds=30.0, beat_seconds=0.05, call_seconds=60.0)
ASK = {"host": "new.example.org", "justification": "why"}


def message(method: str, params: object = None, ident: object = 1) -> bytes:
    found = {"jsonrpc": "2.0", "id": ident, "method": method}
    return json.dumps(found if params is None else {**found, "params": params}).encode()


def call(tool: str, arguments: object, ident: object = 1, **meta: object) -> bytes:
    return message("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, ident)


def head(sidecar: Sidecar, body: bytes, more: str = "", accept: str = "text/event-stream") -> bytes:
    lines = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{sidecar.port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, {accept}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return lines.encode() + body


class Asking:
    """A client of one connection."""

    def __init__(self, sidecar: Sidecar, body: bytes, more: str = "", method: str = "POST") -> None:
        self.sock = sidecar.connect()
        if method == "POST":
            self.sock.sendall(head(sidecar, body, more))
        else:
            start = (
                f"{method} /mcp HTTP/1.1\r\nHost: 127.0.0.1:{sidecar.port}\r\nAccept: text/event-stream\r\n"
            )
            self.sock.sendall(f"{start}{more}\r\n".encode())
        self.response = http.client.HTTPResponse(self.sock)

    def begin(self) -> http.client.HTTPResponse:
        self.response.begin()
        return self.response

    def lines(self) -> Iterator[str]:
        while line := self.response.readline():
            yield line.decode().rstrip("\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        for line in self.lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    def close(self) -> None:
        self.response.close()
        self.sock.close()


def answered(sidecar: Sidecar, body: bytes, more: str = "") -> tuple[int, Any]:
    client = Asking(sidecar, body, more)
    try:
        response = client.begin()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        client.close()


def waiting(sidecar: Sidecar) -> str:
    """The proposal that waits, as soon as there is one."""
    assert eventually(lambda: bool(sidecar.do(lambda: sidecar.desk.queue.pending)))
    return sidecar.do(lambda: sidecar.desk.queue.pending[0].id)


def told(sidecar: Sidecar, ident: str) -> bool:
    found = sidecar.do(lambda: sidecar.desk.queue.find(ident))
    assert found is not None
    return found.told


def state_of(found: dict[str, Any]) -> object:
    return found["result"]["structuredContent"]["state"]


def pings(sidecar: Sidecar) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return answered(sidecar, message("ping"))[0] == 200
    return False
