"""Questions to an engine: what is sent is what was meant, and an answer is one, whole and in time, or an error."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from urllib.parse import parse_qsl

import pytest

from claude_bottle.backend.docker.api import EngineError, SystemEngine, parsed
from tests.unit.backend.docker.engines import answer, chunked, ping, scripted, writes

NEWEST = "/v1.51"


def test_a_question_is_asked_in_a_version_that_both_know() -> None:
    with scripted(ping("1.45"), answer(b"[]"), chunked(b"{", b"}")) as (engine, server):
        assert (
            engine.ask("GET", "/containers/json", query={"all": "1", "filters": {"label": ["a=b&c"]}})
            == b"[]"
        )
        assert engine.ask("POST", "/containers/create", {"Cmd": ["é", "\n"]}, query={"name": "a b"}) == b"{}"
    first, listing, making = server.asked
    assert first[:2] == ("GET", "/_ping")
    assert (listing.method, listing.path, listing.body) == ("GET", "/v1.45/containers/json", b"")
    assert dict(parse_qsl(listing.query)) == {"all": "1", "filters": '{"label": ["a=b&c"]}'}
    assert (making.method, making.target) == ("POST", "/v1.45/containers/create?name=a+b")
    assert making.headers["content-type"] == "application/json"
    assert json.loads(making.body) == {"Cmd": ["é", "\n"]}


@pytest.mark.parametrize(
    ("said", "spoken"),
    [
        *(("1.41", "/v1.41"), ("1.51", NEWEST), ("1.52", NEWEST), ("1.60", NEWEST), ("1.100", NEWEST)),
        *(("2.0", NEWEST), ("1.9", "/v1.9"), ("1.24", "/v1.24")),
    ],
)
def test_a_newer_engine_is_asked_in_the_newest_version_that_is_known(said: str, spoken: str) -> None:
    with scripted(ping(said), answer()) as (engine, server):
        engine.ask("GET", "/info")
    assert server.asked[-1].target == f"{spoken}/info"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "x.y",
        "1",
        "1.",
        ".41",
        ".",
        "1.41.0",
        "-1.41",
        "1.+4",
        "1.4\xb2",
        "1_0.2",
        "v1.41",
        "1." + "9" * 5000,
    ],
    ids=lambda text: text[:9] or "none",
)
def test_an_engine_that_does_not_say_its_version_is_asked_nothing(said: str) -> None:
    with scripted(ping(said)) as (engine, _), pytest.raises(EngineError, match="which version"):
        engine.ask("GET", "/info")
    with scripted(answer(b"OK")) as (engine, _), pytest.raises(EngineError, match="which version"):
        engine.ping()


def test_a_ping_tells_what_the_engine_says_of_itself() -> None:
    with scripted(ping("1.41", "Libpod-Api-Version: 4.3.1")) as (engine, _):
        assert engine.ping()["libpod-api-version"] == "4.3.1"
    for status in ("500 Internal", "404 Not Found", "301 Moved", "101 UPGRADED", "204 No Content"):
        with scripted(answer(b"", status, "Api-Version: 1.45")) as (engine, _):
            with pytest.raises(EngineError, match=status[:3]) as caught:
                engine.ping()
        assert caught.value.status == int(status[:3])


def test_threads_ask_at_once_each_on_a_connection_of_its_own() -> None:
    both = threading.Barrier(2)

    def meets(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        both.wait(15)
        sock.sendall(answer(b"met"))

    found: list[bytes] = []
    with scripted(ping(), meets, meets) as (engine, _):
        engine.ping()
        asking = [threading.Thread(target=lambda: found.append(engine.ask("GET", "/x"))) for _ in range(2)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert found == [b"met", b"met"]


# What the engine refuses

SAYS = {
    "its own words": (b'{"message": "No such container: x"}', "No such container: x"),
    "no json": (b"<html>", "the engine answers 404"),
    "nothing": (b"", "the engine answers 404"),
    "no words": (b'{"message": ""}', "the engine answers 404"),
    "no object": (b'["message"]', "the engine answers 404"),
    "null": (b"null", "the engine answers 404"),
    "no text": (b"\xff\xfe\x00", "the engine answers 404"),
    "deep": (b"[" * 100_000, "the engine answers 404"),
    "deep words": (b'{"message": ' + b"[" * 100_000, "the engine answers 404"),
    "a long number": (b'{"message": ' + b"9" * 5000 + b"}", "the engine answers 404"),
    "another kind": (b'{"message": 7}', "7"),
    "control characters": (
        b'{"message": "\\u001b[2J\\r\\n\\u202e\\ud800"}',
        "\\x1b[2J\\x0d\\x0a\\u202e\\ud800",
    ),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_refusal_is_an_error_with_the_engines_words_and_status(name: str) -> None:
    said, words = SAYS[name]
    with scripted(ping(), answer(said, "404 Not Found")) as (engine, _), pytest.raises(EngineError) as caught:
        engine.ask("GET", "/containers/x/json")
    assert (caught.value.message, caught.value.status) == (words, 404)


def test_words_without_end_are_cut() -> None:
    said = json.dumps({"message": "x" * 100_000}).encode()
    with scripted(ping(), answer(said, "500 Internal")) as (engine, _), pytest.raises(EngineError) as caught:
        engine.ask("GET", "/x")
    assert len(caught.value.message) <= 200


@pytest.mark.parametrize("status", [300, 301, 304, 400, 404, 409, 500, 503, 600, 999])
def test_what_is_no_yes_is_a_no(status: int) -> None:
    with scripted(ping(), answer(b"", f"{status} X")) as (engine, _), pytest.raises(EngineError) as caught:
        engine.ask("POST", "/containers/x/start")
    assert caught.value.status == status


@pytest.mark.parametrize("status", ["000", "099", "100", "101", "103", "199"])
def test_what_is_not_yet_an_answer_is_no_yes(status: str) -> None:
    with scripted(ping(), answer(b"", f"{status} X")) as (engine, _), pytest.raises(EngineError):
        engine.ask("POST", "/containers/x/start")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206])
def test_what_begins_with_a_two_is_a_yes(status: int) -> None:
    with scripted(ping(), answer(b"", f"{status} X")) as (engine, _):
        assert engine.ask("POST", "/containers/x/start") == b""


# Answers that are none

REFUSAL = answer(b'{"message": "gone"}', "404 Not Found")


@pytest.mark.parametrize(
    "said", [answer(b"[7]"), chunked(b"[", b"7]"), REFUSAL], ids=["length", "chunks", "no"]
)
def test_an_answer_that_was_cut_off_is_neither_a_yes_nor_a_no(said: bytes) -> None:
    """Least of all a 404, which would mean that there is no such thing."""
    with scripted(ping(), *(said[:place] for place in range(len(said)))) as (engine, _):
        for place in range(len(said)):
            with pytest.raises(EngineError) as caught:
                engine.ask("GET", "/x")
            assert caught.value.status == 0, said[:place]


def resets(said: bytes) -> Callable[[socket.socket], None]:
    """Closes while not all that was asked has been read, which the other side sees as an error."""

    def play(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(said)

    return play


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
ASKING: dict[str, Callable[[SystemEngine], object]] = {
    "ask": lambda engine: engine.ask("GET", "/x", timeout=0.2),
    "send": lambda engine: engine.send("/x", writes(b"x")),
    "converse": lambda engine: engine.converse("/x"),
    "ping": lambda engine: engine.ping(),
}


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2", HEAD[:-2], HEAD.replace(b"200", b"500")])
def test_a_connection_that_breaks_is_an_error_of_the_engine(name: str, said: bytes) -> None:
    scripts = [resets(said)] if name == "ping" else [ping(), resets(said)]
    with scripted(*scripts) as (engine, _), pytest.raises(EngineError):
        ASKING[name](engine)


@pytest.mark.parametrize("name", ASKING)
def test_an_engine_that_never_answers_is_given_up(name: str) -> None:
    over = threading.Event()

    def says_nothing(sock: socket.socket) -> None:
        over.wait(15)

    scripts = [says_nothing] if name == "ping" else [ping(), says_nothing]
    with scripted(*scripts, patience=0.2) as (engine, _):
        try:
            with pytest.raises(EngineError, match="timed out"):
                ASKING[name](engine)
        finally:
            over.set()


@pytest.mark.parametrize("said", [HEAD[:20], HEAD, HEAD + b"x"])
def test_an_engine_that_stops_in_the_middle_is_given_up(said: bytes) -> None:
    over = threading.Event()

    def stops(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(said)
        over.wait(15)

    with scripted(ping(), stops) as (engine, _):
        try:
            with pytest.raises(EngineError, match="timed out"):
                engine.ask("GET", "/x", timeout=0.2)
        finally:
            over.set()


def test_an_answer_byte_by_byte_gets_no_more_time_than_another() -> None:
    over = threading.Event()

    def dribbles(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        for byte in answer(b"x" * 100):
            over.wait(0.02)
            sock.sendall(bytes([byte]))

    with scripted(ping(), dribbles) as (engine, _):
        try:
            with pytest.raises(EngineError, match="timed out"):
                engine.ask("GET", "/x", timeout=0.3)
        finally:
            over.set()


@pytest.mark.parametrize(
    "said", [answer(b"x" * 1001), chunked(b"x" * 1001), b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001]
)
def test_a_longer_answer_than_was_asked_for_is_an_error(said: bytes) -> None:
    with scripted(ping(), said, answer(b"x" * 1000)) as (engine, _):
        with pytest.raises(EngineError, match="longer"):
            engine.ask("GET", "/x", limit=1000)
        assert len(engine.ask("GET", "/x", limit=1000)) == 1000


def test_no_name_becomes_a_second_question() -> None:
    with scripted(ping()) as (engine, _), pytest.raises(ValueError, match="line break"):
        engine.ask("GET", "/containers/x HTTP/1.1\r\n\r\nDELETE /containers/y/json")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b"[]]"], ids=lambda b: b[:3]
)
def test_what_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(EngineError, match="form that is not known"):
        parsed(body)
