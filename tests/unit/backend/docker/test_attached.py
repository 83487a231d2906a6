"""A container that belongs to this process: what it says is heard whole, and whatever goes wrong is an error of its."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.docker import attached as module
from claude_bottle.backend.docker.api import EngineError, Line
from claude_bottle.backend.docker.attached import Attached
from claude_bottle.errors import BottleError
from tests.support.fake_engine import Expected, fake_engine, refuses
from tests.support.processes import eventually
from tests.unit.backend.docker.engines import PATIENCE

BODY = {"Image": "x"}
MADE: Expected = (("POST", "/containers/create", {"name": "box-1"}, BODY), {"Id": "0a", "Warnings": []})
ATTACH = ("CONVERSE", "/containers/0a/attach?stream=1&stdin=1&stdout=1&stderr=1")
START = ("POST", "/containers/0a/start")


def out(data: bytes) -> bytes:
    return b"\1\0\0\0" + len(data).to_bytes(4, "big") + data


def err(data: bytes) -> bytes:
    return b"\2\0\0\0" + len(data).to_bytes(4, "big") + data


@contextmanager
def attached(early: bytes = b"") -> Iterator[tuple[Attached, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with fake_engine(MADE, (ATTACH, Line(ours, early=early)), (START, b"")) as engine, theirs:
        made = Attached(engine, "the box", "box-1", BODY)
        try:
            yield made, theirs
        finally:
            made.close()


def ends(*said: bytes) -> BottleError:
    """What is heard of one that says this, and goes."""
    with attached() as (box, there):
        there.sendall(b"".join(said))
        there.close()
        with pytest.raises(BottleError) as caught:
            box.hear(PATIENCE)
    return caught.value


def test_it_is_attached_to_before_it_starts_and_its_input_ends_with_us() -> None:
    with attached() as (box, there):
        box.send({"a": "é\n"})
        box.tell(b"keep\n")
        assert there.recv(1000) == b'{"a": "\\u00e9\\n"}\nkeep\n'
        box.close()
        assert there.recv(1) == b""


@given(st.data())
def test_its_messages_are_heard_in_whatever_pieces_they_come(data: st.DataObject) -> None:
    messages = data.draw(
        st.lists(st.dictionaries(st.text(max_size=3), st.integers()), min_size=1, max_size=4)
    )
    line = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=6)))
    parts = [line[start:end] for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True)]
    wire = b"".join(out(part) + err(b"noise\n") for part in parts)
    split = data.draw(st.integers(0, len(wire)))
    with attached(wire[:split]) as (box, there):
        there.sendall(wire[split:])
        assert [box.hear(PATIENCE) for _ in messages] == messages


def test_silence_is_an_error() -> None:
    with attached(out(b'{"half": ')) as (box, there):
        there.sendall(err(b"working\n") + out(b"1") + b"\1\0\0")
        with pytest.raises(BottleError, match="the box said nothing for 0 s"):
            box.hear(0.05)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        pytest.param((), "without a word", id="nothing"),
        pytest.param((err(b" \n\n"),), "without a word", id="blank"),
        pytest.param((err(b"first\nlast\n\n"),), "last", id="last-line"),
        pytest.param((err(b"la"), out(b"half"), err(b"st")), "last", id="pieces"),
        pytest.param((err(b"\x1b[2J\xff"),), "\\x1b[2J\ufffd", id="escapes"),
        pytest.param((err(b"said\n"), b"\1\0\0\0\0\0\0\x09half"), "said", id="cut-off"),
        pytest.param((*[err(b"x" * 60_000 + b"\n")] * 3, err(b"last\n")), "last", id="much"),
    ],
)
def test_one_that_ends_is_quoted(said: tuple[bytes, ...], words: str) -> None:
    assert ends(*said).message == f"the box ended: {words}"


def test_words_without_end_are_cut() -> None:
    assert len(ends(*[err(b"x" * 60_000)] * 3).message) < 300


def test_one_that_has_ended_is_quoted_when_it_is_told_something() -> None:
    """Though nobody has listened to it since."""
    with attached() as (box, there):
        there.sendall(out(b'{"up": true}\n') + err(b"no room left\n"))
        there.close()
        with pytest.raises(BottleError, match="the box ended: no room left"):
            box.tell(b"more\n")


def test_one_whose_connection_breaks_has_ended() -> None:
    with attached() as (box, there):
        box.tell(b"what is not read")
        there.sendall(out(b'{"up": true}\n'))
        there.close()
        assert box.hear(PATIENCE) == {"up": True}
        with pytest.raises(BottleError, match="the box"):
            box.hear(PATIENCE)


@pytest.mark.parametrize(
    ("message", "words", "hint"),
    [
        ({"error": "no room", "hint": "make some"}, "no room", "make some"),
        ({"error": "no room"}, "no room", None),
        ({"error": "", "ready": True}, "", None),
        ({"error": ["no", 7], "hint": None}, "['no', 7]", None),
        ({"error": "no room", "hint": {"x": 1}}, "no room", None),
    ],
)
def test_an_error_of_its_is_ours(message: dict[str, object], words: str, hint: str | None) -> None:
    with attached(out(json.dumps(message).encode() + b"\n")) as (box, _):
        with pytest.raises(BottleError) as caught:
            box.hear(PATIENCE)
    assert (caught.value.message, caught.value.hint) == (words, hint)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"hello", b"{", b"\xff", b"7", b"null", b'"error"', b'["error"]', b"[]", b"true"),
        *(b"[" * 60_000, b'{"a":' * 60_000, b"9" * 5000, b"\x1b[2J"),
    ],
    ids=lambda line: line[:9],
)
def test_what_is_no_message_is_quoted(line: bytes) -> None:
    with attached(out(line + b"\n")) as (box, _):
        with pytest.raises(BottleError) as caught:
            box.hear(PATIENCE)
    assert caught.value.message.startswith("the box says ")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 200 OK\r\n", b"\0" * 8, b"\1\0\0\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("early", [True, False])
def test_output_that_is_none_is_an_error(garbage: bytes, early: bool) -> None:
    with attached(garbage if early else b"") as (box, there):
        there.sendall(b"" if early else garbage)
        with pytest.raises(BottleError, match="the box cannot be heard"):
            box.hear(PATIENCE)


def test_a_message_without_end_is_given_up() -> None:
    """Before the memory is full."""
    with attached(out(b"x" * 60_000) * 40) as (box, _):
        with pytest.raises(BottleError, match="the box says too much"):
            box.hear(0.2)


# It is not made


def refused(*expected: Expected) -> BottleError:
    with fake_engine(*expected) as engine, pytest.raises(BottleError) as caught:
        Attached(engine, "the box", "box-1", BODY)
    return caught.value


def test_what_the_engine_refuses_is_told() -> None:
    ours, theirs = socket.socketpair()
    cases: list[list[Expected]] = [
        [(MADE[0], refuses(409, "name in use"))],
        [MADE, (ATTACH, refuses(404, "name in use"))],
        [MADE, (ATTACH, Line(ours)), (START, refuses(500, "name in use"))],
    ]
    for expected in cases:
        assert refused(*expected).message == "the box cannot be started: name in use"
    with theirs:
        assert theirs.recv(1) == b""  # closed again
    hinted = EngineError("no", 500, "try again")
    assert refused((MADE[0], hinted)).hint == "try again"


@pytest.mark.parametrize(
    "said",
    [
        *(
            b"",
            b"{",
            b"{}",
            b"[]",
            b"7",
            b"null",
            b'{"Id": 7}',
            b'{"Id": null}',
            b'{"Id": ""}',
            b'{"Id": ["0a"]}',
        ),
        *(
            b'{"Id": "../x"}',
            b'{"Id": "0a\\r\\nX: y"}',
            b'{"Id": "0a HTTP/1.1"}',
            b'{"Id": "0a?x"}',
            b'{"Id": "\\u0660"}',
        ),
    ],
)
def test_a_container_without_a_proper_name_is_not_attached_to(said: bytes) -> None:
    assert "form that is not known" in refused((MADE[0], said)).message


# Its pulse


def lines_of(sock: socket.socket) -> Iterator[bytes]:
    with sock.makefile("rb") as file:
        yield from file


def test_it_hears_that_we_live_until_it_needs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of that once it has been told the last, which it may take for something else."""
    monkeypatch.setattr(module, "_PULSE_SECONDS", 0.01)
    with attached() as (box, there):
        said = lines_of(there)
        assert [next(said) for _ in range(3)] == [b"alive\n"] * 3
        box.send({"a": 1})
        assert next(line for line in said if line != b"alive\n") == b'{"a": 1}\n'
        box.rest(b"the last\n")
        box.close()
        later = list(said)
        assert later[-1] == b"the last\n"
        assert set(later[:-1]) <= {b"alive\n"}


def test_it_hears_nothing_of_a_message_in_the_middle_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PULSE_SECONDS", 0.0)
    large = b"x" * (4 << 20) + b"\n"
    with attached() as (box, there):
        telling = threading.Thread(target=box.tell, args=(large,))
        telling.start()
        assert {len(line) for line in lines_until(there, len(large))} == {6, len(large)}
        telling.join()


def lines_until(sock: socket.socket, size: int) -> Iterator[bytes]:
    for line in lines_of(sock):
        yield line
        if len(line) == size:
            return


@pytest.mark.parametrize("end", ["close", "gone"])
def test_its_pulse_ends_with_either_side(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(module, "_PULSE_SECONDS", 0.01)
    before = set(threading.enumerate())
    with attached() as (box, there):
        assert set(threading.enumerate()) != before
        box.close() if end == "close" else there.close()
        assert eventually(lambda: set(threading.enumerate()) <= before)
