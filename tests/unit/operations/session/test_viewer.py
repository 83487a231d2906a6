"""A viewer on a real terminal, with a holder of the test's own at the other end of the socket."""

from __future__ import annotations

import os
import signal
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.backend.remote.frames import (
    DATA,
    ERR,
    OUT,
    STATUS,
    WINDOW,
    Decoder,
    frame,
    numbered,
    numbers,
)
from claude_bottle.operations.session import door
from tests.support.terminals import Terminal, terminal

ROOT = Path(__file__).resolve().parents[4]
VIEWER = f"""
import signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from claude_bottle.operations.session import door, viewer
def ended(*_): raise SystemExit(143)
signal.signal(signal.SIGTERM, ended)
with door.knock(Path(sys.argv[1])) as connection:
    left = viewer.look(connection)
print(left.how.name, left.status, left.words)
"""


class Other:
    """The holder's side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.typed, self.sizes = b"", []  # type: bytes, list[tuple[int, ...]]
        self._decoder = Decoder(door.FROM_VIEWER)

    def tell(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def hear(self) -> None:
        self.sock.settimeout(30)
        data = self.sock.recv(65536)
        assert data
        for kind, payload in self._decoder.feed(data):
            if kind == DATA:
                self.typed += payload
            else:
                assert kind == WINDOW
                self.sizes.append(numbers(payload, 2))


@contextmanager
def viewing(folder: Path) -> Iterator[tuple[Terminal, Other, list[object]]]:
    lock = door.take_lock(folder)
    assert lock is not None
    with (
        door.listen(folder) as listener,
        terminal([sys.executable, "-I", "-c", VIEWER, str(folder)]) as found,
    ):
        before = termios.tcgetattr(found.slave)
        listener.settimeout(30)
        sock, _ = listener.accept()
        with sock:
            other = Other(sock)
            while not other.sizes:
                other.hear()
            yield found, other, before
    os.close(lock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "session"


def test_what_is_shown_typed_and_resized_and_how_it_ends(folder: Path) -> None:
    with viewing(folder) as (found, other, before):
        other.tell(frame(OUT, b"\x1b[?1049h\x1b[?1003h\x1b[38;2;1;2;3mhello"))
        found.wait_for(b"\x1b[38;2;1;2;3mhello")
        found.type(b"\x03abc")
        while other.typed != b"\x03abc":
            other.hear()
        found.resize(40, 120)
        os.kill(found.process.pid, signal.SIGWINCH)
        while other.sizes[-1] != (40, 120):
            other.hear()
        other.tell(frame(ERR, b"some words"), numbered(STATUS, 9))
        assert found.finish() == 0
        assert b"ENDED 9 some words" in found.screen
        assert found.screen.index(b"\x1b[?1003l\x1b[?1049l") < found.screen.index(b"ENDED")
        assert termios.tcgetattr(found.slave) == before


@pytest.mark.parametrize(
    ("last", "said"),
    [
        pytest.param(b"", b"LOST 1", id="it-dies"),
        pytest.param(frame(OUT, b"x")[:3], b"LOST 1", id="it-dies-in-a-frame"),
        pytest.param(b"HTTP/1.1 400\r\n\r\n", b"LOST 1", id="it-talks-otherwise"),
        pytest.param(frame(STATUS, b"x"), b"LOST 1", id="half-a-status"),
        pytest.param(numbered(STATUS, 0xFFFFFFFF), b"ENDED 255", id="an-odd-status"),
        pytest.param(frame(ERR, b"too slow"), b"LOST 1 too slow", id="it-lets-go"),
    ],
)
def test_the_terminal_is_given_back_whatever_the_holder_does(folder: Path, last: bytes, said: bytes) -> None:
    with viewing(folder) as (found, other, before):
        other.tell(frame(OUT, b"\x1b[?1049h\x1b[?2004hshown"))
        found.wait_for(b"shown")
        other.tell(last)
        other.sock.shutdown(socket.SHUT_WR)
        assert found.finish() == 0
        assert said in found.screen
        assert b"\x1b[?2004l\x1b[?1049l" in found.screen
        assert termios.tcgetattr(found.slave) == before


@pytest.mark.parametrize(("key", "said"), [(b"\x1c", b"DETACHED"), (b"\x1a", b"SUSPENDED")])
def test_the_keys_that_are_ours_give_it_back_and_nothing_typed_behind_them_is_a_command(
    folder: Path, key: bytes, said: bytes
) -> None:
    with viewing(folder) as (found, other, before):
        other.tell(frame(OUT, b"\x1b[?1003hshown"))
        found.wait_for(b"shown")
        found.type(b"before" + key + b"\x1b[<35;1;1Mrm -rf\r")
        assert found.finish() == 0
        assert said in found.screen
        assert termios.tcgetattr(found.slave) == before
        assert found.left_to_read() == b""
        while other.typed != b"before":
            other.hear()


def test_a_signal_gives_it_back_too(folder: Path) -> None:
    with viewing(folder) as (found, other, before):
        other.tell(frame(OUT, b"\x1b[?1049hshown"))
        found.wait_for(b"shown")
        os.kill(found.process.pid, signal.SIGTERM)
        assert found.finish() == 143
        assert b"\x1b[?1049l" in found.screen
        assert termios.tcgetattr(found.slave) == before


def test_what_a_holder_lets_pass_is_filtered_once_more(folder: Path) -> None:
    with viewing(folder) as (found, other, _):
        other.tell(frame(OUT, b"a\x1b]52;c;b3duZWQ=\x07\x1b[6nb"))
        found.wait_for(b"ab")
        assert b"52;c" not in found.screen
