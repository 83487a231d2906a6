"""What is sent to an engine without a length, and connections that become plain ones: nothing is lost or made up."""

from __future__ import annotations

import ast
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.docker.api import EngineError, SystemEngine, dial
from tests.support.processes import alive, descendants
from tests.unit.backend.docker.engines import (
    answer,
    chunked,
    listening,
    ping,
    read_request,
    scripted,
    silent,
    upgraded,
    writes,
)

LARGE = 4 << 20  # more than any buffer on the way holds


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_what_is_written_arrives_as_it_is(pieces: list[bytes]) -> None:
    """An empty piece is not the end, as it would be on the wire."""
    with scripted(ping("1.41"), answer()) as (engine, server):
        engine.send(
            "/containers/x/archive",
            writes(*pieces),
            query={"path": "/home/node"},
        )
    _, asked = server.asked
    assert (asked.method, asked.target) == ("PUT", "/v1.41/containers/x/archive?path=%2Fhome%2Fnode")
    assert asked.headers["content-type"] == "application/x-tar"
    assert asked.body == b"".join(pieces)


def test_more_than_the_way_holds_arrives() -> None:
    data = os.urandom(LARGE)
    with scripted(ping(), answer()) as (engine, server):
        engine.send("/x", writes(data[:-1], data[-1:]))
    assert server.asked[-1].body == data


def test_what_cannot_be_read_to_its_end_is_never_ended() -> None:
    """Else the engine would take it for whole."""

    def fails(write: Callable[[bytes], object]) -> None:
        write(b"first")
        raise FileNotFoundError("gone")

    with scripted(ping(), answer()) as (engine, server), pytest.raises(FileNotFoundError):
        engine.send("/x", fails)
    assert (len(server.asked), server.cut_off) == (1, 1)


@pytest.mark.parametrize("amount", [1, 10, 1 << 16])
def test_an_engine_that_has_heard_enough_says_why(amount: int) -> None:
    def refuses(sock: socket.socket) -> None:
        left = amount
        while left and (data := sock.recv(left)):
            left -= len(data)
        sock.sendall(answer(b'{"message": "no space left"}', "507 Full"))

    with (
        scripted(ping(), refuses) as (engine, _),
        pytest.raises(EngineError, match="no space left") as caught,
    ):
        engine.send("/x", writes(bytes(LARGE)))
    assert caught.value.status == 507


def test_an_engine_that_goes_without_a_word_has_taken_nothing() -> None:
    with scripted(ping(), lambda sock: sock.recv(10)) as (engine, _), pytest.raises(EngineError):
        engine.send("/x", writes(bytes(LARGE)))


def test_an_engine_that_takes_nothing_is_given_up() -> None:
    over = threading.Event()
    with scripted(ping(), lambda _: over.wait(15), patience=0.2) as (engine, _):
        try:
            with pytest.raises(EngineError, match="timed out"):
                engine.send("/x", writes(bytes(LARGE)))
        finally:
            over.set()


# Connections


def echoes(head: bytes, sock: socket.socket) -> None:
    """Answers, then says again what it hears, until it hears no more."""
    while b"\r\n\r\n{" not in (data := sock.recv(1 << 16)):
        assert data
    sock.sendall(head)
    while data := sock.recv(1 << 16):
        sock.sendall(data)
    sock.sendall(b"end")


@pytest.mark.parametrize("status", ["101 UPGRADED", "200 OK"])
@pytest.mark.parametrize("early", [b"", b"x", b"\r\n\r\n", b"\0" * 9, b"y" * 100_000], ids=len)
def test_a_connection_carries_bytes_both_ways_and_the_first_are_not_lost(status: str, early: bytes) -> None:
    with scripted(ping(), partial(echoes, upgraded(early, status))) as (engine, _):
        line = engine.converse("/exec/0/start", {"Detach": False})
        assert line.sock.gettimeout() is None
        line.sock.sendall(b"words")
        line.sock.shutdown(socket.SHUT_WR)
        later = b""
        while data := line.sock.recv(1 << 16):
            later += data
        line.close()
    assert line.early + later == early + b"wordsend"


def test_a_connection_is_asked_for_as_the_engine_wants_it() -> None:
    with scripted(ping("1.41"), upgraded()) as (engine, server):
        engine.converse("/containers/0/attach?stream=1&stdin=1").close()
    asked = server.asked[-1]
    assert (asked.method, asked.target) == ("POST", "/v1.41/containers/0/attach?stream=1&stdin=1")
    assert (asked.headers["connection"], asked.headers["upgrade"]) == ("Upgrade", "tcp")
    assert (asked.headers["content-length"], asked.body) == ("0", b"")


@pytest.mark.parametrize(
    ("said", "words", "status"),
    [
        pytest.param(answer(b'{"message": "not running"}', "409 Conflict"), "not running", 409, id="words"),
        pytest.param(chunked(b"<html>", status="500 Internal"), "the engine answers 500", 500, id="none"),
        pytest.param(answer(b"", "204 No Content"), "the engine answers 204", 204, id="no-content"),
        pytest.param(answer(b"", "201 Created"), "the engine answers 201", 201, id="created"),
        pytest.param(answer(b"", "100 Continue"), "the engine answers 100", 100, id="not-yet"),
    ],
)
def test_a_connection_that_is_refused_is_an_error(said: bytes, words: str, status: int) -> None:
    with scripted(ping(), said) as (engine, _), pytest.raises(EngineError) as caught:
        engine.converse("/exec/0/start", {})
    assert (caught.value.message, caught.value.status) == (words, status)


# The way to the engine


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the name of a socket is short enough to be one."""
    with TemporaryDirectory(prefix="engine") as folder:
        yield Path(folder)


def engine_at(endpoint: str, environment: Mapping[str, str]) -> SystemEngine:
    return SystemEngine(partial(dial, endpoint, environment))


def test_a_socket_of_this_host_is_asked_without_any_program(place: Path) -> None:
    with listening(place / "d.sock", ping(), answer(b"[]")):
        assert engine_at(f"unix://{place}/d.sock", {"PATH": "/none"}).ask("GET", "/containers/json") == b"[]"


@pytest.mark.parametrize(
    "kind", ["nothing", "file", "left behind", "no path", "too long", "folder", "denied"]
)
def test_a_socket_where_nothing_listens_is_an_error(place: Path, kind: str) -> None:
    path = str(place / "d.sock")
    if kind == "file":
        Path(path).touch()
    elif kind == "left behind":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    chosen = {"no path": "", "too long": "/" + "a" * 200, "folder": str(place), "denied": f"{path}/x"}
    with pytest.raises(EngineError, match="does not answer") as caught:
        engine_at(f"unix://{chosen.get(kind, path)}", {}).ping()
    assert caught.value.status == 0


# What `docker system dial-stdio` does, wherever the engine is.
CLIENT = """#!{python}
import os, select, socket, sys
open({notes!r}, "a").write(repr((sys.argv[1:], dict(os.environ), os.getsid(0) == os.getpid())) + "\\n")
sock = socket.socket(socket.AF_UNIX)
sock.connect({path!r})
ways = {{0: lambda data: sock.sendall(data), sock.fileno(): lambda data: os.write(1, data)}}
while True:
    for ready in select.select(list(ways), [], [])[0]:
        data = os.read(ready, 65536)
        if data:
            ways[ready](data)
        elif ready:
            os._exit(0)
        else:
            del ways[ready]
            sock.shutdown(socket.SHUT_WR)
"""


@pytest.fixture
def client(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its notes; each connection is a line of them."""
    program = place / "bin" / "docker"
    program.parent.mkdir()
    notes = place / "notes"
    program.write_text(CLIENT.format(python=sys.executable, notes=str(notes), path=str(place / "d.sock")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return notes


FAR = {"DOCKER_HOST": "ssh://far.example.org", "LANG": "C"}


def test_an_engine_elsewhere_is_asked_through_its_client(place: Path, client: Path) -> None:
    with listening(
        place / "d.sock", ping("1.41"), answer(b"x" * 300_000), partial(echoes, upgraded(b"first "))
    ) as server:
        engine = engine_at(FAR["DOCKER_HOST"], FAR)
        assert engine.ask("GET", "/x") == b"x" * 300_000
        line = engine.converse("/y", {})
        line.sock.sendall(b"words")
        line.sock.shutdown(socket.SHUT_WR)
        said = line.early
        while data := line.sock.recv(1000):
            said += data
        line.close()
        engine.close()
    assert said == b"first wordsend"
    assert server.asked[1].target == "/v1.41/x"
    notes = [ast.literal_eval(line) for line in client.read_text().splitlines()]
    assert len(notes) == 3
    for argv, environment, leads in notes:
        assert (argv, leads) == (["system", "dial-stdio"], True)
        assert environment.items() >= FAR.items()
        assert "PATH" not in environment


@pytest.mark.parametrize(
    ("said", "connections"),
    [
        (answer(b"body"), 2),
        (chunked(b"body"), 2),
        (answer(b"body", "200 OK", "Connection: close"), 4),
        (b"HTTP/1.1 200 OK\r\n\r\nbody", 4),
        (answer(b"body") + b"and more", 4),
    ],
)
def test_a_connection_through_the_client_is_asked_again_where_it_may_be(
    place: Path, client: Path, said: bytes, connections: int
) -> None:
    """A login far away takes its time. The ping has a connection of its own."""

    def answers(sock: socket.socket) -> None:
        with suppress(ConnectionError):
            while connections == 2:
                read_request(sock)
                sock.sendall(said)
            read_request(sock)
            sock.sendall(said)

    with listening(place / "d.sock", ping(), *[answers] * (connections - 1)):
        engine = engine_at(FAR["DOCKER_HOST"], FAR)
        assert [engine.ask("GET", f"/{number}") for number in range(3)] == [b"body"] * 3
        engine.close()
    assert len(client.read_text().splitlines()) == connections


def test_what_its_client_complains_of_is_told_and_nowhere_else(
    place: Path, client: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = place / "bin" / "docker"
    program.write_text("#!/bin/sh\nprintf 'talk\\nno way \\033[2Jto far\\n' >&2\n")
    with pytest.raises(EngineError, match=r"no way .*to far") as caught:
        engine_at(FAR["DOCKER_HOST"], FAR).ping()
    assert "\x1b" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_closed_line_leaves_no_process_and_no_connection(place: Path, client: Path) -> None:
    came, gone = threading.Event(), threading.Event()

    def waits(sock: socket.socket) -> None:
        came.set()
        silent(sock)
        gone.set()

    with listening(place / "d.sock", waits):
        before = descendants(os.getpid())
        line = dial("tcp://192.0.2.1:2375", FAR)
        line.sock.sendall(b"x")
        (process,) = descendants(os.getpid()).keys() - before.keys()
        started = {process: descendants(os.getpid())[process]}
        assert came.wait(15)
        line.close()
        assert alive(started) == {}
        assert gone.wait(15)
        line.close()


def test_a_client_that_cannot_reach_it_is_an_error_and_waits_for_nothing(place: Path, client: Path) -> None:
    (place / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n")
    for _ in range(2):
        with pytest.raises(EngineError, match="does not answer"):
            engine_at("tcp://192.0.2.1:2375", FAR).ask("GET", "/x")


def test_without_a_client_there_is_no_way_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(EngineError, match="does not answer"):
        engine_at("tcp://192.0.2.1:2375", FAR).ping()
