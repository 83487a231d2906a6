"""The lines between a bundle and the command that starts it: whole ones only, and silence is an end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from claude_bottle.sidecars.lines import Lines, Reporter


@contextmanager
def in_place_of(number: int, descriptor: int) -> Iterator[None]:
    """`descriptor` is this process's standard input or output in the block; it is closed afterwards."""
    kept = os.dup(number)
    os.dup2(descriptor, number)
    os.close(descriptor)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


class Writer:
    """The other end of standard input."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def says(self, text: bytes) -> None:
        os.write(self._descriptor, text)

    def goes(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@pytest.fixture
def writer() -> Iterator[Writer]:
    read, write = os.pipe()
    other = Writer(write)
    with in_place_of(0, read):
        yield other
    other.goes()


def test_a_line_is_waited_for_until_it_is_whole(writer: Writer) -> None:
    writer.says(b'{"a": 1}\n')
    assert Lines().next() == b'{"a": 1}'


def test_what_comes_after_a_line_is_kept_for_the_next(writer: Writer) -> None:
    lines = Lines()
    writer.says(b"first\nsecond\nthi")
    assert lines.next() == b"first"
    assert lines.next() == b"second"
    writer.says(b"rd\n\n")
    assert lines.next() == b"third"
    assert lines.next() == b""


def test_a_line_larger_than_a_pipe(writer: Writer) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            writer.says(b"x" * 1_000_000 + b"\nrest\n")
            code = 0
        finally:
            os._exit(code)
    lines = Lines()
    assert lines.next() == b"x" * 1_000_000
    assert lines.next() == b"rest"
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("said", [b"", b"no end", b"x" * 60_000])
def test_who_goes_before_the_end_of_a_line_has_said_nothing(writer: Writer, said: bytes) -> None:
    writer.says(said)
    writer.goes()
    with pytest.raises(OSError, match="the starting command is gone"):
        Lines().next()


def test_a_whole_line_is_heard_of_one_who_has_gone(writer: Writer) -> None:
    lines = Lines()
    writer.says(b"spec\nkeep\nke")
    writer.goes()
    assert (lines.next(), lines.next()) == (b"spec", b"keep")
    with pytest.raises(OSError):
        lines.next()


def test_lines_are_taken_as_they_come(writer: Writer) -> None:
    lines = Lines()
    writer.says(b"a\nb\nke")
    assert (lines.take(), lines.ended) == ([b"a", b"b"], False)
    writer.says(b"e")
    assert (lines.take(), lines.ended) == ([], False)
    writer.says(b"p\n")
    assert (lines.take(), lines.ended) == ([b"keep"], False)


def test_half_a_word_is_not_heard_at_the_end(writer: Writer) -> None:
    """Else who dies while it speaks would be obeyed."""
    lines = Lines()
    writer.says(b"keep")
    assert lines.take() == []
    writer.goes()
    assert (lines.take(), lines.ended) == ([], True)


def test_what_was_read_beyond_the_first_line_is_taken_first(writer: Writer) -> None:
    lines = Lines()
    writer.says(b"spec\nkeep\n")
    assert lines.next() == b"spec"
    writer.goes()
    assert (lines.take(), lines.ended) == ([b"keep"], True)


def said_by(call: Callable[[Reporter], None]) -> list[bytes]:
    read, write = os.pipe()
    with in_place_of(1, write):
        call(Reporter())
    with open(read, "rb") as file:
        return file.readlines()


def test_every_message_is_one_line_of_json() -> None:
    hostile = 'two\nlines \x1b[2J "\u2028'

    def messages(reporter: Reporter) -> None:
        reporter.say(error=hostile, hint=None)
        reporter.say(ready=True)

    first, second = said_by(messages)
    assert json.loads(first) == {"error": hostile, "hint": None}
    assert first.isascii()
    assert second == b'{"ready": true}\n'


def test_every_step_has_the_time_since_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 10.5, 10.5004, 12.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))

    def steps(reporter: Reporter) -> None:
        for name in ("bundle", "sidecars", "gate"):
            reporter.step(name)

    assert [json.loads(line) for line in said_by(steps)] == [
        {"step": "bundle", "ms": 500.0},
        {"step": "sidecars", "ms": 0.4},
        {"step": "gate", "ms": 1499.6},
    ]


def test_where_nobody_listens_it_goes_on_in_silence() -> None:
    read, write = os.pipe()
    os.close(read)
    with in_place_of(1, write):
        reporter = Reporter()
        reporter.step("bundle")
        reporter.say(ready=True)


def test_any_other_failure_to_speak_is_one() -> None:
    with in_place_of(1, os.open(os.devnull, os.O_RDONLY)), pytest.raises(OSError):
        Reporter().say(ready=True)
