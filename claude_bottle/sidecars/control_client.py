"""The other end of the control channel: asks a running bundle one question.

Invariant: what comes back is bounded, and is an object that says whether it is "ok"; anything else is an
error. As a program (for whoever must be the container's root to be answered) it only carries bytes, and
somebody waits for it, so it loads nothing.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import Any

MAX_REPLY = 16 << 20
_CHUNK = 64 << 10


def ask(
    request: Mapping[str, object], send: Callable[[bytes], object], receive: Callable[[], bytes]
) -> dict[str, Any]:
    """`receive` gives nothing at the end. Raises BottleError, or what the two raise."""
    import json

    from claude_bottle.errors import BottleError

    send(json.dumps(request).encode() + b"\n")
    taken = bytearray()
    while b"\n" not in taken:
        data = receive()
        if not data:
            raise BottleError("the bottle's sidecars do not answer")
        taken += data
        if len(taken) > MAX_REPLY:
            raise BottleError("the bottle's sidecars say far too much")
    try:
        reply = json.loads(taken.partition(b"\n")[0])
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or type(reply.get("ok")) is not bool:
        raise BottleError("the bottle's sidecars answer in a form that is not known")
    return reply


def within(sock: socket.socket, timeout: float) -> Callable[[], bytes]:
    """Receives from a socket, for so long in all. Raises OSError."""
    deadline = time.monotonic() + timeout

    def receive() -> bytes:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        return sock.recv(_CHUNK)

    return receive


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, by the kernel's word: unix(7), SO_PEERCRED."""
    import socket
    import struct

    process, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return process, user


def start(arguments: list[str]) -> None:
    """ABSTRACT_ADDRESS: a line of the input goes there, and what is answered to the output."""
    import _socket  # `socket` takes as long to load as all the rest of this takes

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(f"\0{arguments[0]}")
        data = b""
        while b"\n" not in data:
            data = os.read(0, _CHUNK)
            if not data:
                return
            sock.sendall(data)
        while data := sock.recv(_CHUNK):
            while data:
                data = data[os.write(1, data) :]
    except OSError as error:
        os.write(2, f"{error.strerror}\n".encode())
        sys.exit(1)
