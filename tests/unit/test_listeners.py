"""The servers of the tests themselves."""

from __future__ import annotations

import socket
import threading

from tests.support.listeners import host_listeners
from tests.support.processes import eventually


def test_who_says_the_password_is_noticed_and_nobody_else() -> None:
    with host_listeners("claude-bottle-unit-test") as found:
        for label in ("tcp-loopback", "tcp-everywhere"):
            with socket.create_connection(("127.0.0.1", found.ports[label])) as caller:
                caller.send(b"claude-bottle-unit-test" if label == "tcp-loopback" else b"hello")
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect("\0claude-bottle-unit-test")
            caller.send(b"claude-bottle-unit-test")
        assert eventually(lambda: sorted(found.reached) == ["abstract", "tcp-loopback"])


def test_nothing_accepts_any_more_once_they_are_closed() -> None:
    """A thread that still did would do so on the number of a socket of somebody else."""
    before = threading.active_count()
    with host_listeners("claude-bottle-unit-test"):
        assert threading.active_count() > before
    assert threading.active_count() == before
