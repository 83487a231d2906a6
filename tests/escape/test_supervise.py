"""Attacks on the supervise sidecar from inside: it takes questions, and gives no way to their answers."""

from __future__ import annotations

from typing import Any

import pytest

from claude_bottle.operations.launch import Launched
from claude_bottle.policy.proposals_json import queue_from_json
from tests.escape.conftest import UPSTREAM_HOST, Attack
from tests.support.bottles import World, python_inside

CLIENT = """
import http.client
def post(message, port=9100, host=None, more=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/json", "Accept": "application/json", **dict(more)}
    if host:
        headers["Host"] = host
    connection.request("POST", "/mcp", json.dumps(message), headers)
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, (json.loads(body) if body else None)
def call(tool, **arguments):
    params = {"name": tool, "arguments": arguments}
    return post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})[1]["result"]
"""


def look(cell: Launched) -> dict[str, Any]:
    said = cell.bottle.control({"op": "look"}, 20.0)
    assert said["ok"] is True
    return said


def test_it_answers_inside_and_knows_no_secret(attack: Attack) -> None:
    found = attack(CLIENT + "\nreport(**call('list-egress-routes')['structuredContent'])")
    hosts = {item["host"] for item in found["routes"]}
    assert UPSTREAM_HOST in hosts
    assert {*found["routes"][0]} == {
        *("host", "ports", "methods", "paths", "inspect", "until", "uses", "approved")
    }


def test_asking_opens_nothing(cell: Launched, attack: Attack) -> None:
    before = look(cell)["live"]
    found = attack(
        CLIENT
        + "\nreport(**call('egress-block', host='evil.example.org', justification='x')['structuredContent'])"
    )
    assert found["state"] == "pending"
    after = look(cell)
    assert after["live"] == before
    hosts = [
        item.asked.route and item.asked.route.host for item in queue_from_json(after["proposals"]).proposals
    ]
    assert "evil.example.org" in hosts
    denied = attack(
        """
        with socket.create_connection(("127.0.0.1", 9099), 10) as sock:
            sock.sendall(b"CONNECT evil.example.org:443 HTTP/1.1\\r\\nHost: evil.example.org:443\\r\\n\\r\\n")
            report(said=sock.recv(100).decode())
        """
    )
    assert denied["said"].startswith("HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "message",
    [
        {"op": "look"},
        {"op": "authority"},
        {"jsonrpc": "2.0", "id": 1, "method": "look"},
        {"jsonrpc": "2.0", "id": 1, "method": "change", "params": {"op": "change"}},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "approve", "arguments": {}}},
    ],
)
def test_what_only_the_operator_may_say_means_nothing_here(attack: Attack, message: dict[str, Any]) -> None:
    found = attack(CLIENT + f"\nstatus, said = post({message!r})\nreport(status=status, said=said)")
    assert "error" in found["said"]
    assert not {"live", "key", "cert", "proposals"} & set(found["said"])


def test_no_socket_of_the_operators_is_to_be_found_inside(attack: Attack) -> None:
    """By path or by abstract name; the control channel, another bottle's sidecar, the state folder."""
    found = attack(
        """
        answered, state = [], []
        for top in ("/run", "/var", "/tmp", "/home", "/opt", "/root", "/srv", "/mnt", "/dev"):
            for folder, folders, names in os.walk(top):
                state += [folder] if "proposals.json" in names or "metadata.json" in names else []
                for name in names:
                    path = os.path.join(folder, name)
                    with socket.socket(socket.AF_UNIX) as sock:
                        sock.settimeout(2)
                        if tried(sock.connect, path[:100]) == "DONE":
                            answered.append(path)
        names = {line.split()[-1] for line in open("/proc/net/unix").read().splitlines()[1:] if "@" in line}
        for name in names:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(2)
                if tried(sock.connect, chr(0) + name[1:]) == "DONE":
                    answered.append(name)
        report(answered=answered, state=state)
        """
    )
    assert [path for path in found["answered"] if not path.startswith("/tmp/")] == []
    assert found["state"] == []


def test_only_the_ports_of_its_own_sidecars_answer(attack: Attack) -> None:
    found = attack(
        """
        ports = []
        for port in range(1, 65536):
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                if sock.getsockname()[1] == port:
                    continue  # it would meet itself
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    ports.append(port)
        report(ports=ports)
        """,
        timeout=300.0,
    )
    assert set(found["ports"]) == {9099, 9100}


def test_a_bottle_sees_no_proposal_of_another(world: World, cell: Launched, attack: Attack) -> None:
    attack(CLIENT + "\nreport(**call('egress-block', host='mine.example.org', justification='x'))")
    mine = next(
        item
        for item in queue_from_json(look(cell)["proposals"]).proposals
        if item.asked.route is not None and item.asked.route.host == "mine.example.org"
    )
    with world.bottle() as other:
        code = f"import json, os, socket\n{CLIENT}\nprint(json.dumps(call('check-proposal', id='{mine.id}')))"
        done = python_inside(other.bottle, code)
        assert done.status == 0, done.stderr
        assert b"there is no proposal" in done.stdout
        assert queue_from_json(look(other)["proposals"]).proposals == ()


def test_while_it_is_flooded_the_gate_answers(cell: Launched, attack: Attack) -> None:
    """Connections that say nothing, as many as it takes, and more of them: the gate has its own."""
    found = attack(
        """
        held, refused = [], 0
        for _ in range(200):
            sock = socket.create_connection(("127.0.0.1", 9100), 10)
            sock.sendall(b"POST /mcp HTTP/1.1\\r\\n")
            held.append(sock)
        with socket.create_connection(("127.0.0.1", 9099), 10) as sock:
            sock.settimeout(20)
            sock.sendall(b"CONNECT evil.example.org:443 HTTP/1.1\\r\\nHost: evil.example.org:443\\r\\n\\r\\n")
            report(said=sock.recv(100).decode())
        """
    )
    assert found["said"].startswith("HTTP/1.1 403 ")
    assert look(cell)["ok"] is True
