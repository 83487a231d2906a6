"""The sidecar on a real socket: who asks waits, is told, and goes on where it was cut off."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct

import pytest

from claude_bottle.policy.proposals import REJECTED, Answer
from tests.support.desks import NOW, Sidecar, serving
from tests.support.processes import eventually
from tests.unit.sidecars.supervise.calls import (
    ASK,
    QUICK,
    Asking,
    answered,
    call,
    head,
    message,
    state_of,
    told,
    waiting,
)


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
        ident_of = waiting(sidecar)
        sock.sendall(head(sidecar, message("ping", None, 4)))  # ahead of time
        sidecar.do(lambda: sidecar.desk.approve(ident_of))
        said = b""  # both answers, which may come in one piece
        while not (last := re.search(rb'"id": ?4\b', said)):
            part = sock.recv(65536)
            assert part, said
            said += part
    assert said.count(b"HTTP/1.1 200 ") == 2
    assert 0 < said.index(b"approved") < last.start()


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
