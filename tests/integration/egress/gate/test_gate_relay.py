"""Bytes in a tunnel: all of them, in order, no more than a bounded number at once, in both directions."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

from claude_bottle.sidecars.egress.gate import Limits

Rig = Any  # the class is in conftest.py, which cannot be imported
MEGABYTE = 1 << 20


def raw_tunnel(rig: Rig) -> tuple[socket.socket, socket.socket]:
    """Both ends of a tunnel whose hello has arrived."""
    hello = rig.hello("raw.example.org")
    client = rig.tunnel("raw.example.org:443")
    client.sendall(hello)
    peer = rig.accept_raw()
    taken = b""
    while len(taken) < len(hello):
        taken += peer.recv(len(hello) - len(taken))
    assert taken == hello
    return client, peer


def digest_of_all(sock: socket.socket) -> str:
    digest = hashlib.sha256()
    while data := sock.recv(1 << 18):
        digest.update(data)
    return digest.hexdigest()


def send_all(sock: socket.socket, data: bytes, seed: int) -> None:
    chance, view = random.Random(seed), memoryview(data)
    while view:
        size = chance.choice((1, 100, 5000, 400_000))
        sock.sendall(view[:size])
        view = view[size:]
    sock.shutdown(socket.SHUT_WR)


def send_until_stuck(sock: socket.socket) -> int:
    sock.settimeout(1.0)
    sent = 0
    with suppress(TimeoutError):
        while sent < 200 * MEGABYTE:
            sent += sock.send(b"x" * MEGABYTE)
    return sent


def test_both_directions_at_once_arrive_whole(rig: Rig) -> None:
    client, peer = raw_tunnel(rig)
    up, down = (random.Random(seed).randbytes(8 * MEGABYTE) for seed in (1, 2))
    with client, peer:
        senders = [
            threading.Thread(target=send_all, args=arguments, daemon=True)
            for arguments in ((client, up, 3), (peer, down, 4))
        ]
        found: list[str] = []
        reader = threading.Thread(target=lambda: found.append(digest_of_all(peer)), daemon=True)
        for thread in (*senders, reader):
            thread.start()
        assert digest_of_all(client) == hashlib.sha256(down).hexdigest()
        for thread in (*senders, reader):
            thread.join(20)
        assert found == [hashlib.sha256(up).hexdigest()]
    end = rig.line(event="close")
    assert end["reason"] == "closed"
    assert (end["bytes_up"], end["bytes_down"]) == (len(up) + len(rig.hello("raw.example.org")), len(down))


def test_the_end_of_one_direction_leaves_the_other_open(rig: Rig) -> None:
    client, peer = raw_tunnel(rig)
    with client, peer:
        client.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""
        peer.sendall(b"still here")
        assert client.recv(100) == b"still here"
        assert rig.lines(event="close") == []
        peer.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert rig.line(event="close")["reason"] == "closed"


def test_bytes_before_the_hello_was_read_are_held_back_and_then_delivered(rig: Rig) -> None:
    with rig.tunnel("raw.example.org:443") as client, rig.accept_raw() as peer:
        peer.sendall(b"the server speaks first")
        client.sendall(rig.hello("raw.example.org"))
        assert client.recv(100) == b"the server speaks first"


@pytest.mark.parametrize("slow_side", ["client", "peer"])
def test_a_slow_reader_holds_its_sender_up(rig: Rig, slow_side: str) -> None:
    client, peer = raw_tunnel(rig)
    slow, fast = (client, peer) if slow_side == "client" else (peer, client)
    with client, peer:
        sent = send_until_stuck(fast)
        assert sent < 64 * MEGABYTE  # the kernel's buffers on the way, and one chunk
        fast.shutdown(socket.SHUT_WR)
        received = 0
        while data := slow.recv(MEGABYTE):
            received += len(data)
        assert received == sent


def test_a_broken_side_ends_the_other(rig: Rig) -> None:
    client, peer = raw_tunnel(rig)
    with client:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        peer.close()
        assert rig.read_all(client) == b""
    assert rig.line(event="close")["reason"] == "reset"


def test_fifty_tunnels_at_once(rig: Rig) -> None:
    def visit(number: int) -> None:
        with rig.tls("echo.example.org:443", "echo.example.org") as stream:
            assert rig.echoes(stream, random.Random(number).randbytes(100_000 + number))
            done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=visit, args=(number,), daemon=True) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(50))
    rig.wait_until(lambda: len(rig.lines(event="close")) == 50, "fifty ends")
    assert len(rig.lines(verdict="allow", stage="egress")) == 50


class TestIdle:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(idle_seconds=0.4)

    def test_a_tunnel_that_moves_nothing_ends(self, rig: Rig) -> None:
        client, peer = raw_tunnel(rig)
        with client, peer:
            assert rig.read_all(client) == b""
            assert rig.read_all(peer) == b""
        assert rig.line(event="close")["reason"] == "idle"

    def test_one_that_moves_a_little_lives_on(self, rig: Rig) -> None:
        client, peer = raw_tunnel(rig)
        with client, peer:
            pause = threading.Event()
            for _ in range(12):
                peer.sendall(b".")
                assert client.recv(1) == b"."
                pause.wait(0.05)
            assert rig.lines(event="close") == []


def test_closing_the_gate_closes_its_tunnels(rig: Rig) -> None:
    client, peer = raw_tunnel(rig)
    with client, peer:
        rig.run(rig.gate.close())
        assert rig.read_all(client) == b""
        assert rig.read_all(peer) == b""
        with pytest.raises(ConnectionRefusedError):
            rig.connect()
    assert rig.line(event="close")["reason"] == "stopped"
