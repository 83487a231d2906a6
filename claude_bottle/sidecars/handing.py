"""Opens listening sockets where it runs, inside a bottle's network, and hands them to the bundle outside.

Invariant: nothing of it stays behind: it sends two descriptors over a unix socket and ends (unix(7),
SCM_RIGHTS).
"""

from __future__ import annotations

import os
import socket
import time

HAND_SOCKET = "hand.sock"
_SECONDS = 30.0


def hand_over(folder: str, ports: list[int]) -> None:
    """Raises OSError where a port is taken or the bundle does not wait for it."""
    os.chdir(folder)
    opened = [socket.create_server(("127.0.0.1", port), backlog=512) for port in ports]
    with reach(HAND_SOCKET) as bundle:
        socket.send_fds(bundle, [b"l"], [item.fileno() for item in opened])


def reach(path: str) -> socket.socket:
    """Connects to the bundle as soon as it listens there. Raises OSError where it does not come."""
    deadline = time.monotonic() + _SECONDS
    while True:
        bundle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bundle.connect(path)
            return bundle
        except OSError:
            bundle.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def start(arguments: list[str]) -> None:
    """FOLDER PORT..."""
    hand_over(arguments[0], [int(port) for port in arguments[1:]])
