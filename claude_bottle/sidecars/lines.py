"""The lines that a bundle and the command that starts it exchange over a pipe.

Invariant: what the starting command does not say any more decides nothing here; the reader does.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SILENCE_SECONDS = 20  # of the starting command: then the kernel ends the bundle (SIGALRM), and Envoy with it


class Reporter:
    """Tells the starting command how far the start is; silent once nobody listens."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def step(self, name: str) -> None:
        now = time.monotonic()
        self.say(step=name, ms=round((now - self._last) * 1000, 1))
        self._last = now

    def say(self, **message: Any) -> None:
        with suppress(BrokenPipeError):  # the starting command is gone: its silence is what counts
            os.write(1, json.dumps(message).encode() + b"\n")


class Lines:
    """Whole lines of standard input; what was read beyond one is kept for the next."""

    def __init__(self) -> None:
        self._buffer = b""
        self.ended = False

    def take(self) -> list[bytes]:
        """Reads once, and returns the lines that are whole by now."""
        part = os.read(0, 65536)
        self.ended = not part
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        return lines

    def next(self) -> bytes:
        """Waits for one line. Raises OSError when there is none to come."""
        while b"\n" not in self._buffer:
            part = os.read(0, 65536)
            if not part:
                raise OSError("the starting command is gone")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
