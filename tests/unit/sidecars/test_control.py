"""The control channel: what is taken for a request, who is answered, and what a broken answer is."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from claude_bottle.errors import BottleError
from claude_bottle.policy.live import LivePolicy, LiveRoute, live_to_json
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import REJECTED, Answer
from claude_bottle.policy.proposals_json import answer_to_json
from claude_bottle.sidecars.control import (
    MAX_REQUEST,
    Applied,
    Authority,
    Change,
    ControlError,
    ControlServer,
    Json,
    Look,
    Request,
    listen_control,
    parse_request,
)
from claude_bottle.sidecars.control_client import ask, peer_of, within

LIVE = LivePolicy((LiveRoute(Route("a.example.org"), grant="d-1"),), 2)
ANSWER = Answer(REJECTED, "d-1", 5.0, "no")
CHANGE: dict[str, Any] = {
    "op": "change",
    "decision": "d-1",
    "expect": 1,
    "live": live_to_json(LIVE),
    "leaves": {"a.example.org": ["cert", "key"]},
    "credentials": {"env:KEY": "sk-secret"},
    "answers": [["p-0123456789", answer_to_json(ANSWER)]],
}


def line(**request: object) -> bytes:
    return json.dumps(request).encode()


def test_each_operation_is_understood() -> None:
    assert parse_request(line(op="look")) == Look()
    assert isinstance(parse_request(line(op="authority")), Authority)
    assert parse_request(line(op="applied", decision="d-1")) == Applied("d-1")
    change = parse_request(line(**CHANGE))
    assert isinstance(change, Change)
    assert (change.expect, change.live, change.answers) == (1, LIVE, (("p-0123456789", ANSWER),))
    assert change.leaves["a.example.org"].key_pem == "key"
    assert parse_request(line(op="change", decision="d-1")) == Change("d-1")


def test_a_change_shows_no_secret() -> None:
    change = parse_request(line(**CHANGE))
    assert "sk-secret" not in f"{change} {change!r} {[change]}"
    assert "'key'" not in repr(change)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"nonsense",
        b"[]",
        b"[" * 100_000,
        line(),
        line(op="open"),
        line(op="look", more=1),
        line(op="applied"),
        line(op="applied", decision="a b"),
        line(op="applied", decision=""),
        line(op="change"),
        *(
            line(**{**CHANGE, **wrong})
            for wrong in (
                {"more": 1},
                {"decision": 5},
                {"decision": "x" * 65},
                {"expect": None},
                {"expect": True},
                {"live": {}},
                {"live": {**live_to_json(LIVE), "schema": 2}},
                {"leaves": {"a": ["cert"]}},
                {"leaves": {"a": ["cert", 5]}},
                {"leaves": {"a": ["cert", "k" * 20_000]}},
                {"leaves": []},
                {"credentials": {"a": None}},
                {"answers": [["p-1"]]},
                {"answers": [["p-1", {}]]},
                {"answers": {}},
            )
        ),
    ],
)
def test_what_is_not_wholly_understood_is_refused(wrong: bytes) -> None:
    with pytest.raises(ControlError) as refused:
        parse_request(wrong)
    assert refused.value.error == "invalid"
    assert "sk-secret" not in refused.value.detail


async def _answers(request: Request) -> Json:
    if isinstance(request, Look):
        return {"seen": True}
    if isinstance(request, Authority):
        raise RuntimeError("a secret may be in here")
    raise ControlError("conflict", "somebody was first")


class Served:
    """A server on a loop in a thread of its own."""

    def __init__(self, address: str, uid: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(address, uid))
        self._thread.start()
        assert self._up.wait(10)

    def _run(self, address: str, uid: int) -> None:
        async def live() -> None:
            self._over = asyncio.Event()
            acceptor = ControlServer(uid, _answers).serve(listen_control(address))
            self._up.set()
            await self._over.wait()
            await acceptor.close()

        self._loop.run_until_complete(live())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def asked(path: str, raw: bytes) -> bytes:
    """All that is said in answer to these bytes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        said = b""
        try:
            sock.sendall(raw)
            while data := sock.recv(65536):
                said += data
        except OSError:
            pass  # it would not hear all of it
        return said


def test_the_server_answers_one_line_with_one(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    served = Served(path, os.geteuid())
    try:
        assert json.loads(asked(path, line(op="look") + b"\n")) == {"ok": True, "seen": True}
        said = json.loads(asked(path, line(op="applied", decision="d") + b"\nmore"))
        assert said == {"ok": False, "error": "conflict", "detail": "somebody was first"}
        said = json.loads(asked(path, line(op="authority") + b"\n"))
        assert said == {"ok": False, "error": "failed", "detail": "RuntimeError"}
        assert json.loads(asked(path, b"nonsense\n"))["error"] == "invalid"
        assert asked(path, b"x" * (MAX_REQUEST + 1) + b"\n") == b""
        assert os.stat(path).st_mode & 0o777 == 0o600
    finally:
        served.close()


def test_another_user_is_not_answered(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    served = Served(path, os.geteuid() + 1)
    try:
        assert asked(path, line(op="look") + b"\n") == b""
    finally:
        served.close()


def test_an_abstract_address_belongs_to_who_was_first() -> None:
    name = f"claude-bottle-test-{os.getpid()}"
    with listen_control(f"@{name}") as listener:
        assert listener.getsockname() == f"\0{name}".encode()
        with pytest.raises(OSError):
            listen_control(f"@{name}")


def test_the_program_carries_a_line_there_and_the_answer_back() -> None:
    name = f"claude-bottle-test-{os.getpid()}"
    served = Served(f"@{name}", os.geteuid())
    try:
        argv = python_argv("sidecars.control_client", PACKAGE_ROOT, name)
        done = subprocess.run(
            argv, input=line(op="look") + b"\n", capture_output=True, timeout=30, check=True
        )
        assert json.loads(done.stdout)["seen"] is True
    finally:
        served.close()
    done = subprocess.run(argv, input=line(op="look") + b"\n", capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize(
    "said", [b"", b"nonsense\n", b"[]\n", b'{"ok": 1}\n', b"[" * 200_000 + b"\n", b'{"ok": true}']
)
def test_no_other_answer_is_taken(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = threading.Thread(target=lambda: (theirs.sendall(said), theirs.shutdown(socket.SHUT_WR)))
        writer.start()
        with pytest.raises(BottleError):
            ask({"op": "look"}, ours.sendall, within(ours, 10))
        writer.join()


def test_who_does_not_answer_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        ask({"op": "look"}, ours.sendall, within(ours, 0.05))


def test_the_kernel_names_the_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == (os.getpid(), os.geteuid())
