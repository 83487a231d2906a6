"""Asks the bundle of a running bottle, by a program that the engine starts beside it as root.

Theory. Envoy shares the bundle's container, user and folders, so a file's mode would hold nobody off. The
bundle answers root alone, by the kernel's word, and only the engine can make somebody root in there. Its
address is an abstract one, which nobody can take from it while it lives.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from claude_bottle.backend.docker.bodies import OPERATOR, Names, control
from claude_bottle.backend.docker.enter import Entry
from claude_bottle.backend.remote.frames import BadFrame
from claude_bottle.errors import BottleError
from claude_bottle.sidecars.control_client import ask, within
from claude_bottle.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claude_bottle.backend.docker.api import Engine


def ask_bundle(engine: Engine, names: Names, request: Mapping[str, object], timeout: float) -> dict[str, Any]:
    """Raises BottleError."""
    try:
        with closing(Entry(engine, names.sidecars, control(names), OPERATOR)) as entry:
            receive = _outputs(entry, within(entry.sock, timeout))
            try:
                return ask(request, entry.sock.sendall, receive)
            except BottleError as error:
                said = shown(entry.words.decode(errors="replace").strip())
                raise BottleError(f"{error.message}: {said}" if said else error.message) from error
    except (OSError, BadFrame) as error:
        raise BottleError(f"the bottle's sidecars do not answer: {error}") from error


def _outputs(entry: Entry, receive: Callable[[], bytes]) -> Callable[[], bytes]:
    """What the program has said, without what the engine wraps it in; nothing at its end."""
    early = [entry.unwrap(b"")]

    def unwrapped() -> bytes:
        said = early.pop() if early else b""
        while not said:
            data = receive()
            if not data:
                return b""
            said = entry.unwrap(data)
        return said

    return unwrapped
