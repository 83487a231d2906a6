"""A holder with real programs in its terminal, and viewers that are well or badly behaved."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_bottle.backend.remote.frames import (
    AGAIN,
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
from claude_bottle.operations.session.holder import Holder, Size, spawn

PATIENCE = 60.0


class Looking:
    """A viewer of the test's: what it was shown and told so far."""

    def __init__(self, folder: Path) -> None:
        found = door.knock(folder)
        assert found
        self.sock = found
        self.shown, self.words, self.status, self.gone = bytearray(), b"", -1, False
        self.again = False
        self._decoder = Decoder(door.FROM_HOLDER)

    def resize(self, rows: int, columns: int) -> None:
        self.sock.sendall(numbered(WINDOW, rows, columns))

    def type(self, data: bytes) -> None:
        self.sock.sendall(frame(DATA, data))

    def until(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough() and not self.gone:
            assert select.select([self.sock], [], [], deadline - time.monotonic())[0], self.shown
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            self.gone = not data
            for kind, payload in self._decoder.feed(data):
                if kind == OUT:
                    self.shown += payload
                elif kind == ERR:
                    self.words += payload
                elif kind == AGAIN:
                    self.again = True
                else:
                    assert kind == STATUS
                    (self.status,) = numbers(payload, 1)
        assert enough(), (self.shown[-500:], self.words)

    def see(self, text: bytes) -> None:
        self.until(lambda: text in self.shown[-100_000:])

    def end(self) -> int:
        self.until(lambda: self.gone)
        return self.status


class World:
    """A folder, the program in it, and the holder beside the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closing: list[Callable[[], None]] = []

    def hold(self, script: str, *, again: bool = False) -> None:
        """`again`: the bottle is launched once more when the program has ended."""
        lock = door.take_lock(self.folder)
        assert lock is not None
        program = spawn(["sh", "-c", script], Size(24, 80))
        listener = door.listen(self.folder)
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        holder = Holder(listener, program, Size(24, 80), self.bell)

        def serve() -> None:
            status = holder.serve()
            holder.farewell(f"ended with {status}", None if again else status)

        thread = threading.Thread(target=serve)
        thread.start()

        def close() -> None:
            if program.process.returncode is None:
                program.process.kill()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            listener.close()
            os.close(program.master)
            os.close(program.ended)
            os.close(self.bell)
            os.close(lock)

        self.closing.append(close)

    def look(self, size: tuple[int, int] | None = (24, 80)) -> Looking:
        found = Looking(self.folder)
        self.closing.insert(0, found.sock.close)
        if size:
            found.resize(*size)
        return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "session")
    yield found
    for close in found.closing:
        close()


def test_who_looks_is_sent_on_where_the_bottle_was_launched_again(world: World) -> None:
    world.hold("printf early; read x", again=True)
    one = world.look()
    one.see(b"early")
    one.type(b"\r")
    one.end()
    assert (one.again, one.status, one.words) == (True, -1, b"ended with 0")
    assert door.knock(world.folder) is None, "nobody comes to the old door any more"


def test_the_bell_rings_for_all_that_look_and_draws_nothing(world: World) -> None:
    world.hold("printf early; read x; printf late")
    one, two, silent = world.look(), world.look(), world.look(None)
    one.see(b"early")
    two.until(lambda: True)
    os.eventfd_write(world.bell, 3)
    one.see(b"\a")
    assert one.shown.count(b"\a") == 1
    one.type(b"\r")
    one.see(b"late")
    two.end()
    assert two.shown.count(b"\a") <= 1
    silent.end()
    assert b"\a" not in silent.shown


def test_the_first_sees_everything_and_gets_status_and_words(world: World) -> None:
    world.hold("printf early; sleep 0.2; read x; echo got $x; exit 7")
    one = world.look()
    one.see(b"early")
    one.type(b"word\r")
    assert one.end() == 7
    assert b"got word" in one.shown
    assert one.words == b"ended with 7"


def test_a_program_that_ends_at_once_is_still_told_of(world: World) -> None:
    world.hold("read go; echo cannot do it; exit 125")
    one = world.look()
    one.type(b"\r")
    assert (one.end(), b"cannot do it" in one.shown) == (125, True)


def test_a_signal_is_a_status_too(world: World) -> None:
    world.hold("read x; kill -KILL $$")
    one = world.look()
    one.type(b"\r")
    assert one.end() == 137


def test_all_see_all_may_type_and_one_may_go(world: World) -> None:
    world.hold("while read x; do echo got $x; [ $x = end ] && exit 0; done")
    one, two = world.look(), world.look()
    one.type(b"red\r")
    two.see(b"got red")
    one.see(b"got red")
    one.sock.close()
    two.type(b"end\r")
    assert two.end() == 0


def test_the_size_is_that_of_the_last(world: World) -> None:
    world.hold("trap 'stty size' WINCH; echo go; while :; do sleep 0.02; done")
    one = world.look()
    one.see(b"go")
    one.resize(30, 100)
    one.see(b"30 100")
    two = world.look((40, 120))
    two.see(b"40 120")
    one.resize(31, 101)
    two.see(b"31 101")


def test_for_one_of_the_same_size_the_size_changes_and_changes_back(world: World) -> None:
    world.hold(
        "trap 'stty size' WINCH; printf '\\033[?1049h\\033[?2004h'; echo go; while :; do sleep 0.02; done"
    )
    one = world.look()
    one.see(b"go")
    one.resize(30, 100)
    one.see(b"30 100")
    two = world.look((30, 100))
    two.see(b"30 99")
    two.see(b"30 100")
    assert two.shown.startswith(b"\x1b[?1049h\x1b[?2004h")
    assert two.shown.index(b"30 99") < two.shown.index(b"30 100")


def test_nothing_hostile_is_shown(world: World) -> None:
    world.hold(r"printf 'a\033]52;c;b3duZWQ=\007\033]2;owned\007\033[6n\033[>1ub'; read x")
    one = world.look()
    one.see(b"ab")


def test_one_that_does_not_read_is_left_out_and_holds_nobody_up(world: World) -> None:
    world.hold("read x; head -c 12000000 /dev/zero | tr '\\0' x; echo; echo DONE; read y; exit 4")
    idle, one = world.look(), world.look()
    idle.see(b"")
    one.type(b"go\r")
    one.see(b"DONE")
    assert one.shown.count(b"x") >= 12_000_000
    idle.until(lambda: idle.gone)
    assert idle.words == b"this terminal was too slow and was left out; the agent works on"
    assert idle.status == -1
    assert len(idle.shown) < 8_000_000
    again = world.look()
    again.type(b"\r")
    assert (again.end(), one.end()) == (4, 4)


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another-protocol"),
        pytest.param(frame(OUT, b"x"), id="a-frame-of-the-other-side"),
        pytest.param(frame(WINDOW, b"x"), id="half-a-number"),
        pytest.param(b"d\xff\xff\xff\xff", id="endless"),
    ],
)
def test_what_is_no_viewer_is_put_out(world: World, nonsense: bytes) -> None:
    world.hold("read x; exit 3")
    bad, good = world.look(None), world.look()
    bad.sock.sendall(nonsense)
    bad.until(lambda: bad.gone)
    good.type(b"\r")
    assert good.end() == 3


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_no_size_is_too_odd(world: World, size: tuple[int, int]) -> None:
    world.hold("read x; stty size; exit 0")
    one = world.look(size)
    one.type(b"\r")
    assert one.end() == 0


def test_too_many_are_told_so(world: World) -> None:
    world.hold("read x")
    kept = [world.look() for _ in range(16)]
    for one in kept:
        one.type(b"x")  # so that each was heard
    kept[-1].see(b"x" * 16)
    late = world.look(None)
    late.until(lambda: late.gone)
    assert late.words == b"too many terminals are attached"
    kept[0].type(b"\r")
    assert [one.end() for one in kept] == [0] * 16


def test_a_program_that_reads_nothing_takes_no_memory_and_can_be_left(world: World) -> None:
    world.hold("stty raw -echo; echo go; sleep 1000")
    one, two = world.look(), world.look()
    one.see(b"go")
    one.sock.setblocking(False)
    sent = 0
    while select.select([], [one.sock], [], 0.5)[1]:
        try:
            sent += one.sock.send(frame(DATA, b"x" * 1000))
        except BlockingIOError:
            break
    assert sent < 4 << 20
    two.resize(33, 77)
    two.sock.close()


def test_a_program_dies_with_its_holder() -> None:
    ready, write = os.pipe()
    holding = os.fork()
    if holding == 0:
        try:
            program = spawn(["sh", "-c", "trap '' HUP; sleep 1000"], Size(24, 80))
            os.write(write, str(program.process.pid).encode())
            time.sleep(1000)
        finally:
            os._exit(1)
    child = os.pidfd_open(int(os.read(ready, 20)))
    os.kill(holding, signal.SIGKILL)
    os.waitpid(holding, 0)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    assert poll.poll(PATIENCE * 1000)
    for descriptor in (ready, write, child):
        os.close(descriptor)


def test_one_holder_a_folder_and_a_socket_only_for_its_owner(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / "session"  # longer than a socket's address may be
    deep.parent.mkdir()
    lock = door.take_lock(deep)
    assert lock is not None
    assert door.take_lock(deep) is None
    assert door.knock(deep) is None
    with door.listen(deep) as listener:
        assert deep.stat().st_mode & 0o777 == 0o700
        assert (deep / "socket").stat().st_mode & 0o777 == 0o600
        with door.knock(deep) or socket.socket():
            listener.accept()[0].close()
    assert door.knock(deep) is None  # the socket is there, and nobody behind it
    door.listen(deep).close()  # and is no obstacle
    os.close(lock)


def test_nobody_knocks_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "session").symlink_to(tmp_path / "real")
    with pytest.raises(OSError):
        door.knock(tmp_path / "session")
    with pytest.raises(OSError):
        door.listen(tmp_path / "session")
