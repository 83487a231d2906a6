"""The sidecar on a real socket, and clients that behave as none should."""

from __future__ import annotations

import http.client
import json
import random
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from claude_bottle.policy.proposals import MAX_KEPT, MAX_PENDING, REJECTED, Answer
from claude_bottle.sidecars.supervise.connection import Limits
from tests.support.desks import NOW, Sidecar, serving
from tests.support.processes import eventually

QUICK = Limits(connections=16, request_seconds=1.0, idle_seconds=30.0, beat_seconds=0.05, call_seconds=60.0)
ASK = {"host": "new.example.org", "justification": "why"}


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    with serving(limits=QUICK) as found:
        yield found


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


def test_a_call_waits_with_signs_of_life_and_is_then_told(sidecar: Sidecar) -> None:
    client = Asking(sidecar, call("egress-block", ASK, "a", progressToken="t"))
    response = client.begin()
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    coming = client.messages()
    ident = waiting(sidecar)
    steps = [next(coming)["params"] for _ in range(3)]
    assert {step["progressToken"] for step in steps} == {"t"}
    assert [step["progress"] for step in steps] == sorted({step["progress"] for step in steps})
    assert not told(sidecar, ident)
    sidecar.do(lambda: sidecar.desk.approve(ident))
    (last,) = [found for found in coming if "result" in found]
    assert (last["id"], state_of(last)) == ("a", "approved")
    assert eventually(lambda: told(sidecar, ident))
    client.close()


def test_without_a_token_comments_keep_the_connection(sidecar: Sidecar) -> None:
    client = Asking(sidecar, call("egress-block", ASK))
    client.begin()
    lines = client.lines()
    assert [next(lines) for _ in range(4)] == [": waiting for the operator", ""] * 2
    client.close()


def test_after_an_answer_the_connection_goes_on(sidecar: Sidecar) -> None:
    with sidecar.connect() as sock:
        for ident in (1, 2):
            sock.sendall(head(sidecar, message("ping", None, ident)))
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert json.loads(response.read())["id"] == ident
        sock.sendall(head(sidecar, call("egress-block", ASK)))
        response = http.client.HTTPResponse(sock)
        response.begin()
        ident_of = waiting(sidecar)
        sock.sendall(head(sidecar, message("ping", None, 4)))  # ahead of time
        sidecar.do(lambda: sidecar.desk.approve(ident_of))
        assert b"approved" in response.read()
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert json.loads(response.read())["id"] == 4


def test_a_client_that_leaves_takes_no_proposal_with_it_and_was_told_nothing(sidecar: Sidecar) -> None:
    client = Asking(sidecar, call("egress-block", ASK))
    client.begin()
    ident = waiting(sidecar)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    again = Asking(sidecar, call("egress-block", {**ASK, "justification": "again"}))
    again.begin()
    assert eventually(lambda: sidecar.do(lambda: sidecar.desk.queue.proposals[0].times) == 2)
    assert waiting(sidecar) == ident
    again.close()
    assert eventually(lambda: not sidecar.server._calls)  # what is told now is told to nobody
    sidecar.do(lambda: sidecar.desk.answer(ident, Answer(REJECTED, "d-1", NOW, "no")))
    assert not told(sidecar, ident)
    status, found = answered(sidecar, call("check-proposal", {"id": ident}))
    assert (status, state_of(found)) == (200, "rejected")
    assert eventually(lambda: told(sidecar, ident))
    assert state_of(answered(sidecar, call("egress-block", ASK))[1]) == "rejected"


def test_who_was_cut_off_goes_on_from_the_last_event(sidecar: Sidecar) -> None:
    client = Asking(sidecar, call("egress-block", ASK, "mine"), "MCP-Protocol-Version: 2025-11-25\r\n")
    client.begin()
    place = next(line for line in client.lines() if line.startswith("id: ")).removeprefix("id: ")
    client.close()
    resumed = Asking(sidecar, b"", f"Last-Event-ID: {place}\r\n", method="GET")
    resumed.begin()
    ident = waiting(sidecar)
    sidecar.do(lambda: sidecar.desk.approve(ident))
    (found,) = [item for item in resumed.messages() if "result" in item]
    assert (found["id"], state_of(found)) == ("mine", "approved")
    resumed.close()
    late = Asking(sidecar, b"", f"Last-Event-ID: {place}\r\n", method="GET")
    late.begin()
    assert [(item["id"], state_of(item)) for item in late.messages()] == [("mine", "approved")]
    late.close()


@pytest.mark.parametrize(
    "place", ["", "x", "p-0123456789/", "p-0123456789/zz", "p-0123456789/31", "/" * 3000]
)
def test_there_is_nothing_else_to_listen_to(sidecar: Sidecar, place: str) -> None:
    client = Asking(sidecar, b"", f"Last-Event-ID: {place}\r\n" if place else "", method="GET")
    assert client.begin().status == 405
    client.close()


def test_a_call_that_is_cancelled_ends_without_an_answer_and_no_other_does(sidecar: Sidecar) -> None:
    mine = Asking(sidecar, call("egress-block", ASK, 7), "Mcp-Session-Id: mine\r\n")
    other = Asking(sidecar, call("egress-block", ASK, 7), "Mcp-Session-Id: other\r\n")
    for client in (mine, other):
        client.begin()
        next(client.lines())
    cancel = json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
    assert answered(sidecar, cancel.encode(), "Mcp-Session-Id: mine\r\n") == (202, None)
    assert [item for item in mine.messages() if "result" in item] == []
    ident = waiting(sidecar)
    sidecar.do(lambda: sidecar.desk.approve(ident))
    assert [state_of(item) for item in other.messages() if "result" in item] == ["approved"]
    mine.close()
    other.close()


def test_a_session_that_is_deleted_waits_no_more(sidecar: Sidecar) -> None:
    mine = Asking(sidecar, call("egress-block", ASK), "Mcp-Session-Id: mine\r\n")
    mine.begin()
    next(mine.lines())
    ending = Asking(sidecar, b"", "Mcp-Session-Id: mine\r\n", method="DELETE")
    assert ending.begin().status == 204
    assert [item for item in mine.messages() if "result" in item] == []
    assert waiting(sidecar)
    mine.close()
    ending.close()


def test_a_call_does_not_wait_for_ever() -> None:
    with serving(limits=QUICK._replace(call_seconds=0.2)) as sidecar:
        client = Asking(sidecar, call("egress-block", ASK))
        client.begin()
        (found,) = [item for item in client.messages() if "result" in item]
        assert state_of(found) == "pending"
        assert "Nobody has answered yet" in str(found)
        client.close()
        assert waiting(sidecar)


def test_a_client_that_takes_no_events_does_not_wait(sidecar: Sidecar) -> None:
    with sidecar.connect() as sock:
        sock.sendall(head(sidecar, call("egress-block", ASK), accept="text/html"))
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert state_of(json.loads(response.read())) == "pending"


def test_what_is_in_force_is_said_at_once_and_asked_of_nobody(sidecar: Sidecar) -> None:
    found = answered(sidecar, call("egress-block", {**ASK, "host": "known.example.org"}))[1]
    assert state_of(found) == "in-force"
    assert sidecar.desk.queue.proposals == ()


def test_a_proposal_that_was_forgotten_is_told_so(sidecar: Sidecar) -> None:
    client = Asking(sidecar, call("egress-block", ASK))
    client.begin()
    waiting(sidecar)
    sidecar.do(sidecar.desk.forget)
    (found,) = [item for item in client.messages() if "result" in item]
    assert found["result"]["isError"] is True
    client.close()


def test_where_proposals_cannot_be_kept_the_agent_and_the_operator_hear_of_it(sidecar: Sidecar) -> None:
    sidecar.desk.full = True
    found = answered(sidecar, call("egress-block", ASK))[1]["result"]
    assert (found["isError"], sidecar.ups) == (True, [True, False])
    sidecar.desk.full = False
    client = Asking(sidecar, call("egress-block", ASK))
    client.begin()
    waiting(sidecar)
    assert sidecar.ups == [True, False, True]
    client.close()


def test_a_browser_under_another_name_is_turned_away(sidecar: Sidecar) -> None:
    assert answered(sidecar, message("ping"), "Origin: https://evil.example\r\n")[0] == 403
    with sidecar.connect() as sock:
        sock.sendall(head(sidecar, message("ping")).replace(b"127.0.0.1", b"evil.example"))
        assert sock.recv(100).startswith(b"HTTP/1.1 421 ")


def test_bodies_without_end_are_not_read(sidecar: Sidecar) -> None:
    with sidecar.connect() as sock, suppress(ConnectionError):
        start = head(sidecar, b"").replace(b"Content-Length: 0", b"Content-Length: 10485760")
        sock.sendall(start)
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")
        for _ in range(160):
            sock.sendall(b"x" * 65536)
    assert answered(sidecar, message("ping"))[0] == 200


def test_slow_clients_hold_nobody_up(sidecar: Sidecar) -> None:
    """As many as there is room for, each a byte now and then: they are sent away, and others come in."""
    slow = [sidecar.connect() for _ in range(QUICK.connections)]
    for sock in slow:
        sock.sendall(b"POST /mcp HTTP/1.1\r\n")
    busy = sidecar.connect()
    assert busy.recv(100).startswith(b"HTTP/1.1 503 ")
    busy.close()
    deadline = time.monotonic() + 20
    ended: set[int] = set()
    while len(ended) < len(slow):
        assert time.monotonic() < deadline
        for number, sock in enumerate(slow):
            with suppress(OSError):
                sock.sendall(b"X")
                sock.settimeout(0.01)
                if sock.recv(100) is not None:
                    ended.add(number)
    assert eventually(lambda: _pings(sidecar))
    for sock in slow:
        sock.close()


def test_a_client_that_takes_nothing_is_left() -> None:
    """It asks on and on, and never reads: neither does the server keep what it says, nor wait for it."""
    limits = QUICK._replace(write_seconds=0.3, connections=1)
    with serving(limits=limits) as sidecar:
        with sidecar.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(10)
            body = message("tools/list")
            with pytest.raises((ConnectionError, TimeoutError)) as ending:
                while True:
                    sock.sendall(head(sidecar, body) * 50)
            assert isinstance(ending.value, ConnectionError)
        assert eventually(lambda: _pings(sidecar))


def _pings(sidecar: Sidecar) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return answered(sidecar, message("ping"))[0] == 200
    return False


def test_ten_thousand_calls_leave_a_bounded_queue_and_memory(sidecar: Sidecar) -> None:
    """Each for another host and as long as it may be; the pace lets few of them through."""
    why = "w" * 1900

    def flood(count: int) -> None:
        with sidecar.connect() as sock:
            reader = sock.makefile("rb")
            for number in range(count):
                body = call("egress-block", {"host": f"h{number}.example.org", "justification": why}, number)
                sock.sendall(head(sidecar, body, accept="text/html"))
                length = 0
                while (line := reader.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                assert reader.read(length)

    flood(2_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    flood(8_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 8 * 1024, "KiB"
    queue = sidecar.do(lambda: sidecar.desk.queue)
    assert 0 < len(queue.proposals) <= MAX_KEPT + MAX_PENDING
    assert len(queue.proposals) <= 10, "of one minute"


def test_the_same_asked_without_end_is_counted_no_faster_than_the_pace(sidecar: Sidecar) -> None:
    for _ in range(300):
        client = Asking(sidecar, call("egress-block", ASK))
        client.begin()
        client.close()
    (only,) = sidecar.do(lambda: sidecar.desk.queue.proposals)
    assert only.times <= 30


def mangled(chance: random.Random, sidecar: Sidecar) -> bytes:
    """A request with something wrong: its bytes, its head, its JSON, or its meaning."""
    names = [
        "egress-block",
        "pipelock-block",
        "capability-block",
        "list-egress-routes",
        "check-proposal",
        "rm",
    ]
    values: list[object] = [None, True, -1, 1e308, "", "x" * 3000, "\ud800", [], {}, [[]], {"a": {"b": []}}]
    fields = ["host", "url", "justification", "ports", "methods", "paths", "packages", "dockerfile", "id"]
    arguments = {chance.choice(fields): chance.choice(values) for _ in range(chance.randrange(5))}
    params = chance.choice([{"name": chance.choice(names), "arguments": arguments}, *values])
    methods: list[object] = ["tools/call", "tools/call", "initialize", "server/discover", "notifications/x"]
    found: dict[str, object] = {
        "jsonrpc": "2.0",
        "method": chance.choice([*methods, *values]),
        "params": params,
    }
    found["id"] = chance.choice([1, "a", *values])
    for key in chance.sample(sorted(found), chance.randrange(2)):
        del found[key]
    body = bytearray(json.dumps(found).encode())
    kind = chance.randrange(5)
    if kind == 0:
        for _ in range(chance.randrange(1, 6)):
            body[chance.randrange(len(body))] = chance.randrange(256)
    whole = bytearray(head(sidecar, bytes(body), "Connection: close\r\n"))
    if kind == 1:
        for _ in range(chance.randrange(1, 6)):
            whole[chance.randrange(len(whole))] = chance.randrange(256)
    if kind == 2:
        del whole[chance.randrange(len(whole)) :]
    return bytes(whole) if kind != 3 else chance.randbytes(chance.randrange(1, 400))


def test_ten_thousand_malformed_messages_each_get_an_answer_or_a_close(sidecar: Sidecar) -> None:
    chance = random.Random(7)
    statuses: dict[bytes, int] = {}
    for _ in range(10_000):
        with sidecar.connect() as sock:
            with suppress(ConnectionError):
                sock.sendall(mangled(chance, sidecar))
                sock.shutdown(socket.SHUT_WR)  # no more comes: what is not whole is closed
                said = b""
                while part := sock.recv(65536):
                    said += part
                statuses[said[9:12]] = statuses.get(said[9:12], 0) + 1
    assert (
        {b"200", b"400", b""}
        <= set(statuses)
        <= {
            *(
                b"",
                b"200",
                b"202",
                b"400",
                b"403",
                b"404",
                b"405",
                b"411",
                b"413",
                b"415",
                b"417",
                b"421",
                b"431",
            )
        }
    )
    assert answered(sidecar, message("ping"))[0] == 200
