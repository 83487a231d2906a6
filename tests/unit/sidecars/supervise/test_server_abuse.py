"""The sidecar on a real socket, and clients that behave as none should: it stays small, and there for others."""

from __future__ import annotations

import json
import random
import resource
import socket
import time
from contextlib import suppress

import pytest

from claude_bottle.policy.proposals import MAX_KEPT, MAX_PENDING
from tests.support.desks import Sidecar, serving
from tests.support.processes import eventually
from tests.unit.sidecars.supervise.calls import (
    ASK,
    QUICK,
    Asking,
    answered,
    call,
    head,
    message,
    pings,
)


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
    assert eventually(lambda: pings(sidecar))
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
        assert eventually(lambda: pings(sidecar))


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
