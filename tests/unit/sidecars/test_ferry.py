"""The ferry: bytes cross unread and whole, ends pass on, nobody takes another's place, and it ends as it must."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from claude_bottle.sidecars import ferry
from claude_bottle.sidecars.ferry import GATE_SOCKET, LIFE_SOCKET, SUPERVISE_SOCKET
from tests.support.processes import PATIENCE, all_processes, eventually

ELSEWHERE = "another kernel"  # than the one that this runs on


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def listener(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1024)
    server.settimeout(PATIENCE)
    return server


class Crossing:
    """A ferry between two ports of this host's and a bundle that the test plays."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self.gate = stack.enter_context(listener(folder / GATE_SOCKET))
        life = stack.enter_context(listener(folder / LIFE_SOCKET))
        self.supervise = stack.enter_context(listener(folder / SUPERVISE_SOCKET))
        self.ports = free_port(), free_port(), free_port()
        gate, life_port, supervise = map(str, self.ports)
        words = [str(folder), gate, life_port, ELSEWHERE, supervise]
        argv = python_argv("sidecars.ferry", PACKAGE_ROOT, *words)
        subprocess.run(argv, check=True, timeout=PATIENCE, cwd="/")
        self.line = stack.enter_context(life.accept()[0])
        self.anchor = self.connect(self.ports[1])

    def connect(self, port: int) -> socket.socket:
        return self._stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))

    def cross(self) -> tuple[socket.socket, socket.socket]:
        """A client inside, and the gate's end of it."""
        inner = self.connect(self.ports[0])
        outer = self._stack.enter_context(self.gate.accept()[0])
        outer.settimeout(PATIENCE)
        return inner, outer

    def is_over(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[0]), PATIENCE):
            return False
        return True


@pytest.fixture
def crossing(tmp_path: Path) -> Iterator[Crossing]:
    with ExitStack() as stack:
        crossing = Crossing(tmp_path, stack)
        yield crossing
        crossing.line.close()
    assert eventually(crossing.is_over)
    assert not [pid for pid in all_processes() if str(tmp_path) in _command(pid)], "it leaves nothing"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def test_bytes_cross_whole_both_ways_and_each_end_passes_on(crossing: Crossing) -> None:
    inner, outer = crossing.cross()
    there, back = os.urandom(300_000), os.urandom(300_000)
    with subprocess.Popen(["cat"], stdin=inner, stdout=subprocess.DEVNULL):
        outer.sendall(back[:1])  # the one who reads the other's slowly does not hold it up
        outer.sendall(back[1:])
        outer.shutdown(socket.SHUT_WR)
    inner.sendall(there)
    inner.shutdown(socket.SHUT_WR)
    assert everything(outer) == there


def test_the_supervise_sidecar_is_met_behind_its_own_port(crossing: Crossing) -> None:
    """Also where those who stay have taken all the room before it."""
    held = [crossing.connect(crossing.ports[0]) for _ in range(ferry._CONNECTIONS + 20)]
    inner = crossing.connect(crossing.ports[2])
    outer = crossing._stack.enter_context(crossing.supervise.accept()[0])
    inner.sendall(b"asked")
    assert outer.recv(5) == b"asked"
    outer.sendall(b"answered")
    assert inner.recv(8) == b"answered"
    assert held


def test_what_the_gate_says_arrives_before_its_end(crossing: Crossing) -> None:
    inner, outer = crossing.cross()
    outer.sendall(b"refused")
    outer.close()
    assert everything(inner) == b"refused"


def test_a_client_that_breaks_off_is_gone_outside_as_well(crossing: Crossing) -> None:
    inner, outer = crossing.cross()
    inner.close()
    assert outer.recv(1) == b""


def test_those_who_were_turned_away_and_stay_take_nobodys_place(
    crossing: Crossing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(ferry._CONNECTIONS + 20):
        _, outer = crossing.cross()
        outer.close()
    inner, outer = crossing.cross()
    outer.sendall(b"next")
    assert inner.recv(4) == b"next"


def test_a_gate_that_is_gone_is_an_end_and_no_wait(crossing: Crossing, tmp_path: Path) -> None:
    (tmp_path / GATE_SOCKET).unlink()
    inner = crossing.connect(crossing.ports[0])
    with suppress(ConnectionResetError):
        assert inner.recv(1) == b""


def test_when_the_bundle_ends_the_anchor_learns_it(crossing: Crossing) -> None:
    crossing.line.close()
    assert crossing.anchor.recv(1) == b""


def test_when_the_anchor_ends_the_bundle_learns_it(crossing: Crossing) -> None:
    crossing.anchor.close()
    crossing.line.settimeout(PATIENCE)
    assert crossing.line.recv(1) == b""


def test_the_life_line_is_held_once(crossing: Crossing) -> None:
    with pytest.raises(OSError):
        crossing.connect(crossing.ports[1]).recv(1)


def test_on_the_engines_own_kernel_it_does_not_start(tmp_path: Path) -> None:
    with listener(tmp_path / GATE_SOCKET), listener(tmp_path / LIFE_SOCKET):
        argv = python_argv("sidecars.ferry", PACKAGE_ROOT, str(tmp_path), "0", "0", os.uname().release)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    assert "no kernel of its own" in done.stderr.splitlines()[-1]
