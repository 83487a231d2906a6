"""A program that belongs to this process until it is told "keep", and the JSON lines that go to and fro.

Invariant: it reads our end of its input closing as the order to end, so whatever ends this process ends it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from claude_bottle.errors import BottleError
from claude_bottle.text import shown

_ENDING_SECONDS = 5.0
_ADVICE = ("Run 'docker", "See 'docker")  # of the engine's client, below its error


class Attached:
    """`name` is how messages call it."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._name = name
        self._words = os.memfd_create("words")
        self._heard = b""
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for the starting command, which ends this one in order
        )

    def send(self, message: Mapping[str, object]) -> None:
        self.tell(json.dumps(message).encode() + b"\n")

    def tell(self, data: bytes) -> None:
        """Raises BottleError with its last words where it has ended."""
        try:
            _pipe(self._process.stdin).write(data)
            _pipe(self._process.stdin).flush()
        except BrokenPipeError as error:
            raise BottleError(f"{self._name} ended: {self.last_words()}") from error

    def hear(self, timeout: float) -> dict[str, Any]:
        """What it says next. Raises BottleError for an error of its, its end, or silence."""
        line = self.hear_line(timeout)
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise BottleError(f"{self._name} says {shown(line.decode(errors='replace'))}") from error
        if "error" in message:
            raise BottleError(str(message["error"]), message.get("hint"))
        return message

    def hear_line(self, timeout: float) -> bytes:
        import select

        output = _pipe(self._process.stdout)
        deadline = time.monotonic() + timeout
        while b"\n" not in self._heard:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BottleError(f"{self._name} said nothing for {timeout:.0f} s")
            part = os.read(output.fileno(), 65536)
            if not part:
                raise BottleError(f"{self._name} ended: {self.last_words()}")
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def last_words(self) -> str:
        """The last line of its standard error that is not mere advice."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING_SECONDS)  # what it said last may be on its way
        lines = os.pread(self._words, 65536, 0).decode(errors="replace").strip().splitlines()
        telling = [
            line for line in lines if line.strip() and not line.startswith(("Run 'docker", "See 'docker"))
        ]
        return shown(telling[-1]) if telling else "without a word"

    def close(self) -> None:
        """Closes its input, and ends the local program, which has nothing more to do."""
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        self._process.kill()
        self._process.wait()
        _pipe(self._process.stdout).close()
        os.close(self._words)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
