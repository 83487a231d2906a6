"""Sockets that are opened in one place and served in another: all of them are handed over, or none."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from claude_bottle.sidecars import handing
from claude_bottle.sidecars.handing import HAND_SOCKET, hand_over
from tests.support.processes import PATIENCE, eventually

ANY = 0  # the kernel chooses a port


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, and put back afterwards."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(folder: Path, *ports: object) -> subprocess.Popen[bytes]:
    """It runs as it does in a bottle's network: by itself."""
    argv = python_argv("sidecars.handing", PACKAGE_ROOT, str(folder), *map(str, ports))
    return subprocess.Popen(argv, cwd="/", stderr=subprocess.PIPE)


def last_words(started: subprocess.Popen[bytes]) -> str:
    """Why it failed, as it must have."""
    with started:
        said = started.communicate(timeout=PATIENCE)[1].decode()
    assert started.returncode not in (None, 0)
    return said.strip().splitlines()[-1]


@contextmanager
def bundle() -> Iterator[socket.socket]:
    """What waits for the sockets in the working directory."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(HAND_SOCKET)
        server.listen()
        server.settimeout(PATIENCE)
        yield server


def handed(server: socket.socket, stack: ExitStack) -> tuple[bytes, list[socket.socket], bytes]:
    """What came: a message, sockets, and what followed until the end."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(PATIENCE)
        said, descriptors, _, _ = socket.recv_fds(connection, 1, 8)
        sockets = [stack.enter_context(socket.socket(fileno=number)) for number in descriptors]
        return said, sockets, connection.recv(1)


def nobody_came(server: socket.socket) -> bool:
    server.setblocking(False)
    try:
        server.accept()
    except BlockingIOError:
        return True
    return False


def is_served(listener: socket.socket) -> bool:
    """Whether who connects to its address is met there."""
    listener.settimeout(PATIENCE)
    with socket.create_connection(listener.getsockname(), PATIENCE) as client:
        connection, address = listener.accept()
        with connection:
            return bool(address == client.getsockname())


def test_listening_sockets_are_handed_over_in_their_order(folder: Path) -> None:
    with ExitStack() as stack, bundle() as server:
        with socket.create_server(("127.0.0.1", ANY)) as free:
            port = free.getsockname()[1]
        with program(folder, port, ANY) as helper:
            said, sockets, rest = handed(server, stack)
        assert helper.returncode == 0
        assert (said, len(sockets), rest) == (b"l", 2, b"")
        assert sockets[0].getsockname() == ("127.0.0.1", port)
        assert sockets[1].getsockname()[0] == "127.0.0.1"
        assert [is_served(item) for item in sockets] == [True, True]


def test_the_bundle_may_come_later_and_nothing_stays_behind(folder: Path) -> None:
    with ExitStack() as stack:
        with program(folder, ANY, ANY) as helper:
            where = f"/proc/{helper.pid}/cwd"
            assert eventually(lambda: os.readlink(where) == str(folder))  # it has begun, and nobody waits
            server = stack.enter_context(bundle())
            _, sockets, _ = handed(server, stack)
        assert helper.returncode == 0
        assert [is_served(item) for item in sockets] == [True, True]
        addresses = [item.getsockname() for item in sockets]
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE).close()


def test_where_one_port_is_taken_none_is_handed_over(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", ANY)) as taken, bundle() as server:
        assert "Address already in use" in last_words(program(folder, ANY, taken.getsockname()[1]))
        assert nobody_came(server)


@pytest.mark.parametrize("port", ["http", "70000", "-1", ""])
def test_a_port_that_is_none_is_an_error(folder: Path, port: str) -> None:
    with bundle() as server:
        assert "Error" in last_words(program(folder, ANY, port))
        assert nobody_came(server)


def test_without_the_folder_nothing_is_opened(folder: Path) -> None:
    with bundle() as server:
        assert "FileNotFoundError" in last_words(program(folder / "gone", ANY))
        assert nobody_came(server)


@pytest.mark.parametrize("kind", ["nothing", "left behind", "file"])
def test_a_bundle_that_does_not_come_is_not_waited_for_without_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(handing, "_SECONDS", 0.05)
    if kind == "left behind":
        with bundle():
            pass
    if kind == "file":
        (folder / HAND_SOCKET).touch()
    with pytest.raises(OSError):
        hand_over(str(folder), [])
