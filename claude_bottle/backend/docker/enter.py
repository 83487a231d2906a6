"""Enters a bottle by the engine: a connection to a program that it starts in the bottle's container.

As a program: [-t] -- CONTAINER ARGV... Somebody waits for each start, so this loads little.
"""

from __future__ import annotations

import os
import sys

from claude_bottle.backend.docker.api import identity, outputs
from claude_bottle.backend.docker.bodies import USER, program
from claude_bottle.backend.docker.http import WireError
from claude_bottle.backend.remote.frames import BadFrame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from claude_bottle.backend.docker.api import Engine

_OUT = 1
_WORDS_BYTES = 4096


class Entry:
    """The program's streams. Raises EngineError where the engine does not start it."""

    def __init__(self, engine: Engine, container: str, argv: list[str], user: str = USER) -> None:
        made = identity(engine.ask("POST", f"/containers/{container}/exec", program(user, argv)))
        self._line = engine.converse(f"/exec/{made}/start", {"Detach": False, "Tty": False})
        self.sock = self._line.sock
        self.back = self.sock.fileno()
        self.there = os.dup(self.back)
        self._buffer = bytearray(self._line.early)
        self.words = b""  # what it said that is no frame: why there are none

    def unwrap(self, data: bytes) -> bytes:
        self._buffer += data
        frames = b""
        try:
            for kind, piece in outputs(self._buffer):
                if kind == _OUT:
                    frames += piece
                else:
                    self.words = (self.words + piece)[-_WORDS_BYTES:]
        except WireError as error:
            raise BadFrame(str(error)) from error
        return frames

    def end(self, *, failed: bool) -> None:
        if failed:
            os.write(2, self.words)
        self.close()

    def close(self) -> None:
        """May be called again."""
        if self.there >= 0:
            os.close(self.there)
            self.there = -1
        self._line.close()


def carry(engine: Engine, container: str, argv: list[str], *, terminal: bool) -> int:
    """Runs it on this process's own streams. Status 125, with the reason told, where it cannot be entered."""
    from claude_bottle.backend.remote.outside import FAILED, run
    from claude_bottle.errors import BottleError

    try:
        return run(lambda: Entry(engine, container, argv), terminal=terminal)
    except (BottleError, OSError) as error:
        _say(f"cannot enter the bottle: {error}")
        return FAILED


def _say(text: str) -> None:
    os.write(2, f"claude-bottle: {text}\n".encode(errors="replace"))


def start(arguments: list[str]) -> NoReturn:
    from claude_bottle.backend.docker.engine import find
    from claude_bottle.backend.remote.outside import FAILED
    from claude_bottle.errors import BottleError
    from claude_bottle.proc import SystemRunner

    terminal = arguments[0] == "-t"
    container, *argv = arguments[2 if terminal else 1 :]
    try:
        _, engine = find(SystemRunner(os.environ), os.environ)
    except BottleError as error:
        _say(f"cannot enter the bottle: {error}")
        sys.exit(FAILED)
    sys.exit(carry(engine, container, argv, terminal=terminal))
