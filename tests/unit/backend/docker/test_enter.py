"""The connection to a program in a bottle: frames come through, words beside them are kept, all else ends it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.docker.api import EngineError, Line
from claude_bottle.backend.docker.enter import Entry
from claude_bottle.backend.remote.frames import BadFrame
from tests.support.fake_engine import Expected, fake_engine, refuses
from tests.unit.backend.docker.engines import PATIENCE
from tests.unit.backend.docker.test_attached import err, out

ARGV = ["/usr/bin/python3", "-c", "x", "--", "id"]
STREAMS = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Tty": False}
MADE: Expected = (
    ("POST", "/containers/box/exec", {}, {"User": "node", "Cmd": ARGV, **STREAMS}),
    {"Id": "0a"},
)
START: tuple[object, ...] = ("CONVERSE", "/exec/0a/start", {}, {"Detach": False, "Tty": False})


@contextmanager
def entered(early: bytes = b"", *, ends: bool = False) -> Iterator[tuple[Entry, socket.socket]]:
    """`ends`: the test closes it."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with fake_engine(MADE, (START, Line(ours, early=early))) as engine, theirs:
        entry = Entry(engine, "box", ARGV)
        with nullcontext() if ends else closing(entry):
            yield entry, theirs


def test_it_is_two_descriptors_of_one_connection_that_closes_with_both() -> None:
    with entered(ends=True) as (entry, there):
        assert entry.there != entry.back
        os.write(entry.there, b"to it")
        assert there.recv(100) == b"to it"
        there.sendall(b"from it")
        assert os.read(entry.back, 100) == b"from it"
        entry.end(failed=False)
        assert there.recv(1) == b""


@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=8),
    st.lists(st.integers(0, 600), max_size=8),
)
def test_frames_and_words_are_told_apart_in_whatever_pieces_they_come(
    said: list[tuple[bool, bytes]], places: list[int]
) -> None:
    wire = b"".join(out(data) if is_frame else err(data) for is_frame, data in said)
    edges = [0, *sorted(min(place, len(wire)) for place in places), len(wire)]
    early, *later = [wire[start:end] for start, end in pairwise(edges)]
    with entered(early) as (entry, _):
        frames = b"".join(map(entry.unwrap, [b"", *later]))
    assert frames == b"".join(data for is_frame, data in said if is_frame)
    assert entry.words == b"".join(data for is_frame, data in said if not is_frame)


def test_of_words_without_end_the_last_are_kept() -> None:
    with entered() as (entry, _):
        for number in range(1000):
            assert entry.unwrap(err(b"%08d" % number * 100)) == b""
    assert len(entry.words) <= 4096
    assert entry.words.endswith(b"00000999")


@pytest.mark.parametrize(
    "data",
    [
        *(b"HTTP/1.1", b"\0\0\0\0\0\0\0\1x", b"\3\0\0\0\0\0\0\1x", b"\1\0\0\1\0\0\0\1x", b"\xff" * 9),
        b"\1\0\0\0\xff\xff\xff\xff",
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_output_in_another_form_is_a_bad_frame(data: bytes, early: bool) -> None:
    with entered(data if early else b"") as (entry, _):
        with pytest.raises(BadFrame, match="form that is not known"):
            entry.unwrap(b"" if early else data)


@pytest.mark.parametrize("failed", [True, False])
def test_only_one_that_failed_says_why(capfd: pytest.CaptureFixture[str], failed: bool) -> None:
    with entered(err(b"no such file\n") + out(b"frame"), ends=True) as (entry, _):
        assert entry.unwrap(b"") == b"frame"
        entry.end(failed=failed)
    assert capfd.readouterr() == ("", "no such file\n" if failed else "")


@pytest.mark.parametrize(
    "expected",
    [
        [(MADE[0], refuses(404, "No such container: box"))],
        [(MADE[0], refuses(409, "container box is not running"))],
        [MADE, (START, refuses(500, "cannot start"))],
        [(MADE[0], b"")],
        [(MADE[0], b"{")],
    ],
)
def test_a_program_that_the_engine_does_not_start_is_an_error(expected: list[Expected]) -> None:
    with fake_engine(*expected) as engine, pytest.raises(EngineError):
        Entry(engine, "box", ARGV)


def test_another_user_is_asked_for_by_name() -> None:
    asked = (*MADE[0][:3], {"User": "0:0", "Cmd": ARGV, **STREAMS})
    with fake_engine((asked, refuses(404))) as engine, pytest.raises(EngineError):
        Entry(engine, "box", ARGV, "0:0")
