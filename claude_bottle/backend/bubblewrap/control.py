"""Asks the sidecars of a running bottle: a socket in its run directory, which is the operator's alone.

Invariant: what answers is the process that holds the bottle's lock, by the kernel's word.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from claude_bottle.backend.bubblewrap.lock import CONTROL, lock_holder
from claude_bottle.errors import BottleError
from claude_bottle.sidecars.control_client import ask, peer_of, within

if TYPE_CHECKING:
    from collections.abc import Mapping


def ask_keeper(run: str, request: Mapping[str, object], timeout: float) -> dict[str, Any]:
    """Raises BottleError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout)
            _connect(sock, run)
            if peer_of(sock)[0] != lock_holder(run):
                raise BottleError("somebody else answers in place of the bottle's sidecars")
            return ask(request, sock.sendall, within(sock, timeout))
    except OSError as error:
        raise BottleError(f"the bottle's sidecars do not answer: {error.strerror or error}") from error


def _connect(sock: socket.socket, run: str) -> None:
    """unix(7) has room for 107 bytes, and a home may be deeper than that."""
    folder = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{CONTROL}")
    finally:
        os.close(folder)
