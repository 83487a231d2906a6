"""A program elsewhere, run to its end: all of its input and output, within limits of size and time, whoever it is."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.backend.remote.collect import Collecting, collect
from claude_bottle.backend.remote.frames import DATA, END, WINDOW_BYTES, Decoder, frame, numbered
from claude_bottle.errors import BottleError
from claude_bottle.proc import Result, TimeOver
from tests.support.processes import PATIENCE, command_of, eventually, running_with
from tests.unit.backend.remote.calls import transport

MIB = 1 << 20
LIMIT = 64 * MIB
STREAM = Callable[[bytes], bytes]


def plain(data: bytes) -> bytes:
    return data


@contextmanager
def inside(place: Path, *argv: str) -> Iterator[socket.socket]:
    """The real other end, on this host, at a connection's other end."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        process = subprocess.Popen(
            transport(place, *argv), stdin=end, stdout=end, stderr=subprocess.DEVNULL, cwd=place
        )
    ours.setblocking(False)
    try:
        with ours:
            yield ours
    finally:
        process.wait(PATIENCE)  # by itself, as nobody is there any more


def run(place: Path, *argv: str, stdin: bytes = b"", timeout: float = PATIENCE, limit: int = LIMIT) -> Result:
    with inside(place, *argv) as sock:
        return collect(sock, plain, b"", stdin, timeout, limit)


def test_input_output_complaints_and_status_are_the_programs(place: Path) -> None:
    done = run(place, "sh", "-c", "cat; echo no >&2; exit 7", stdin=b"words")
    assert done == Result(7, b"words", b"no\n")
    assert run(place, "sh", "-c", "kill -9 $$") == Result(137, b"", b"")
    assert run(place, "no-such-program").status == 127


def test_much_goes_in_though_it_is_read_slowly(place: Path) -> None:
    """And though what is read is said again at once: neither waits for the other."""
    data = os.urandom(3 * MIB)
    program = "import os, time\nwhile data := os.read(0, 50000):\n time.sleep(0.001)\n os.write(1, data)"
    done = run(place, sys.executable, "-c", program, stdin=data)
    assert (done.status, len(done.stdout)) == (0, len(data))
    assert done.stdout == data


def test_much_comes_out_up_to_the_limit(place: Path) -> None:
    argv = ("head", "-c", str(5 * MIB), "/dev/zero")
    assert len(run(place, *argv, limit=5 * MIB).stdout) == 5 * MIB
    with pytest.raises(BottleError, match="said more than 4 MiB"):
        run(place, *argv, limit=5 * MIB - 1)


def test_output_without_end_is_given_up_and_its_program_killed(place: Path) -> None:
    with pytest.raises(BottleError, match="said more than 1 MiB"):
        run(place, "cat", "/dev/zero", limit=MIB)
    assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("program", ["sleep 1000", "exec <&-; sleep 1000", "while :; do echo x >&2; done"])
@pytest.mark.parametrize("stdin", [b"", b"x" * MIB], ids=["no-input", "input"])
def test_a_program_that_does_not_end_is_given_up_and_killed(place: Path, program: str, stdin: bytes) -> None:
    with pytest.raises(TimeOver, match="within 0 s"):
        run(place, "sh", "-c", program, stdin=stdin, timeout=0.4)
    assert eventually(lambda: running_with(str(place)) == [])


def test_of_complaints_without_end_the_last_are_kept(place: Path) -> None:
    done = run(place, "sh", "-c", f"head -c {MIB} /dev/zero >&2; printf last >&2")
    assert (done.status, len(done.stderr), done.stderr[-4:]) == (0, 1 << 16, b"last")


def test_input_that_nobody_reads_holds_nobody_up(place: Path) -> None:
    assert run(place, "sh", "-c", "echo done; exit 3", stdin=b"x" * (2 * MIB)) == Result(3, b"done\n", b"")


def test_what_runs_on_in_the_background_holds_nobody_up(place: Path) -> None:
    assert run(place, "sh", "-c", "sleep 1000 & echo started") == Result(0, b"started\n", b"")
    assert eventually(lambda: [command_of(process) for process in running_with(str(place))] == ["sleep"])


# The other end is hostile


def elsewhere(
    play: Callable[[socket.socket], object], stdin: bytes = b"", timeout: float = PATIENCE
) -> Result:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)

    def played() -> None:
        with theirs:
            play(theirs)

    thread = threading.Thread(target=played)
    ours.setblocking(False)
    thread.start()
    try:
        with ours:
            return collect(ours, plain, b"", stdin, timeout, MIB)
    finally:
        thread.join()


@pytest.mark.parametrize(
    "data",
    [
        *(b"HTTP/1.1 200 OK\r\n\r\n", bytes(9), b"o" + b"\xff" * 4, frame(b"q"), frame(b"d", b"x")),
        *(frame(b"c"), numbered(b"c", 1, 1), frame(b"x"), numbered(b"x", 0, 0), frame(b"x", b"\0")),
        *(numbered(b"x", 0) + frame(b"o", b"late"), numbered(b"x", 0) * 2, numbered(b"s", 9)),
        frame(b"o", b"x" * 65537),
    ],
    ids=lambda data: data[:9],
)
def test_a_byte_out_of_place_is_an_error(data: bytes) -> None:
    with pytest.raises(BottleError, match="the bottle says what it must not"):
        elsewhere(lambda sock: sock.sendall(data))


@pytest.mark.parametrize(
    "data", [b"", b"o", frame(b"o", b"abc")[:-1], frame(b"o", b"abc"), numbered(b"c", 9)]
)
@pytest.mark.parametrize("stdin", [b"", b"x" * MIB], ids=["no-input", "input"])
def test_one_that_ends_without_a_status_is_125(data: bytes, stdin: bytes) -> None:
    """Though it has not read what it was sent, which breaks the connection."""
    done = elsewhere(lambda sock: sock.sendall(data), stdin)
    assert (done.status, done.stdout) == (125, b"abc" if data == frame(b"o", b"abc") else b"")


def test_a_status_counts_though_the_input_was_not_read() -> None:
    said = frame(b"o", b"out") + numbered(b"x", 3)
    assert elsewhere(lambda sock: sock.sendall(said), b"x" * MIB) == Result(3, b"out", b"")


@pytest.mark.parametrize("value", [256, 1 << 31, (1 << 32) - 1])
def test_a_status_that_is_none_is_never_a_success(value: int) -> None:
    assert elsewhere(lambda sock: sock.sendall(numbered(b"x", value))).status == 255


def endless(data: bytes) -> Callable[[socket.socket], None]:
    def play(sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(data)
        except OSError:  # nobody listens any more
            pass

    return play


@pytest.mark.parametrize(
    "data", [frame(b"o"), frame(b"e", b"x"), numbered(b"c", 1)], ids=["out", "err", "credit"]
)
def test_frames_without_end_are_given_up_in_time(data: bytes) -> None:
    with pytest.raises(TimeOver):
        elsewhere(endless(data * 100), timeout=0.3)


def test_output_without_end_is_given_up_at_its_limit() -> None:
    with pytest.raises(BottleError, match="more than 1 MiB"):
        elsewhere(endless(frame(b"o", b"x" * 1000)))


def test_one_that_never_answers_is_given_up() -> None:
    """And the connection is closed, which is all that it hears."""
    gone: list[bool] = []

    def silent(sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, 0)
        gone.append(bool(poll.poll(PATIENCE * 1000)))

    with pytest.raises(TimeOver):
        elsewhere(silent, b"x" * MIB, timeout=0.2)
    assert gone == [True]


# What is on its way


def test_no_more_than_a_window_is_sent_without_credit() -> None:
    run = Collecting(b"x" * MIB, LIMIT)
    run.fill()
    (sent,) = {len(run.pending)}
    run.fill()
    assert sum(map(len, payloads(run.pending))) == WINDOW_BYTES
    assert len(run.pending) == sent
    run.pending.clear()
    run.take(numbered(b"c", 1000) + numbered(b"c", 24))
    run.fill()
    assert b"".join(payloads(run.pending)) == b"x" * 1024
    run.pending.clear()
    run.take(numbered(b"c", 0xFFFFFFFF) * 5)
    run.fill()
    assert sum(map(len, payloads(run.pending))) == WINDOW_BYTES


def payloads(pending: bytearray) -> list[bytes]:
    return [payload for kind, payload in Decoder(frozenset((DATA, END))).feed(bytes(pending)) if kind == DATA]


@pytest.mark.parametrize("stdin", [b"", b"abc"])
def test_the_end_of_the_input_is_told_once_and_after_it(stdin: bytes) -> None:
    run = Collecting(stdin, LIMIT)
    run.fill()
    run.fill()
    assert bytes(run.pending) == (frame(DATA, stdin) if stdin else b"") + frame(END)


def wrap(data: bytes) -> bytes:
    return b"<" + struct.pack(">I", len(data)) + data


def unwrapping() -> STREAM:
    buffer = bytearray()

    def unwrap(data: bytes) -> bytes:
        nonlocal buffer
        buffer += data
        found = b""
        while len(buffer) >= 5 and len(buffer) >= 5 + (size := struct.unpack_from(">I", buffer, 1)[0]):
            assert buffer[:1] == b"<"
            found += buffer[5 : 5 + size]
            del buffer[: 5 + size]
        return found

    return unwrap


def test_what_came_early_is_unwrapped_once_like_all_that_follows() -> None:
    said = frame(b"o", b"early ") + frame(b"o", b"late") + numbered(b"x", 4)
    wire = wrap(said[:3]) + wrap(said[3:20]) + wrap(said[20:])
    for place in range(len(wire) + 1):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            unwrap = unwrapping()
            early = unwrap(wire[:place])
            theirs.sendall(wire[place:])
            assert collect(ours, unwrap, early, b"", PATIENCE, LIMIT) == Result(4, b"early late", b"")
