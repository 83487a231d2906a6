"""A container that belongs to this process until it is told "keep", and the lines that go to and fro.

Invariant: it takes our end of its input closing as the order to end, and silence as well, so whatever ends
this process ends it. Silence, since an engine that dies leaves its containers' input open.
"""

from __future__ import annotations

import json
import select
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_bottle.backend.docker.api import identity, outputs
from claude_bottle.backend.docker.http import WireError
from claude_bottle.errors import BottleError
from claude_bottle.text import shown

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

_STREAMS = "stream=1&stdin=1&stdout=1&stderr=1"
_WORDS_BYTES = 64 << 10
_MESSAGE_BYTES = 1 << 20
_LAST_WORDS_SECONDS = 5.0
_CHUNK = 64 << 10
_OUT = 1
_PULSE_SECONDS = 3.0


class Attached:
    """Makes and starts it. `what` is how messages call it. Raises BottleError."""

    def __init__(self, engine: Engine, what: str, name: str, body: Mapping[str, Any]) -> None:
        self.what = what
        self._heard = self._words = b""
        self._telling, self._calm = threading.Lock(), threading.Event()
        try:
            made = identity(engine.ask("POST", "/containers/create", body, query={"name": name}))
            self._line = engine.converse(f"/containers/{made}/attach?{_STREAMS}")
            self._buffer = bytearray(self._line.early)
            try:
                engine.ask("POST", f"/containers/{made}/start")
            except BaseException:
                self.close()
                raise
        except BottleError as error:
            raise BottleError(f"{what} cannot be started: {error.message}", error.hint) from error
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, message: Mapping[str, object]) -> None:
        self.tell(json.dumps(message).encode() + b"\n")

    def tell(self, data: bytes) -> None:
        """Raises BottleError with its last words where it has ended."""
        try:
            with self._telling:
                self._line.sock.sendall(data)
        except OSError as error:
            self._line.sock.settimeout(_LAST_WORDS_SECONDS)
            with suppress(BottleError):
                while self._take():  # what it said last has not been heard yet
                    pass
            raise self._ended() from error

    def hear(self, timeout: float) -> dict[str, Any]:
        """What it says next. Raises BottleError for an error of its, its end, or silence."""
        line = self._next(timeout)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise BottleError(f"{self.what} says {shown(line.decode(errors='replace'))}")
        if "error" in message:
            hint = message.get("hint")
            raise BottleError(str(message["error"]), hint if isinstance(hint, str) else None)
        return message

    def _next(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        self._sort()
        while b"\n" not in self._heard:
            if len(self._heard) > _MESSAGE_BYTES:
                raise BottleError(f"{self.what} says too much")
            if not select.select([self._line.sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BottleError(f"{self.what} said nothing for {timeout:.0f} s")
            if not self._take():
                raise self._ended()
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def _take(self) -> bool:
        """False at its end."""
        try:
            data = self._line.sock.recv(_CHUNK)
        except OSError as error:
            raise BottleError(f"{self.what} cannot be heard: {error}") from error
        self._buffer += data
        self._sort()
        return bool(data)

    def _sort(self) -> None:
        try:
            for kind, piece in outputs(self._buffer):
                if kind == _OUT:
                    self._heard += piece
                else:
                    self._words = (self._words + piece)[-_WORDS_BYTES:]
        except WireError as error:
            raise BottleError(f"{self.what} cannot be heard: {error}") from error

    def _ended(self) -> BottleError:
        """With the last line of its standard error."""
        lines = self._words.decode(errors="replace").strip().splitlines()
        return BottleError(f"{self.what} ended: {shown(lines[-1]) if lines else 'without a word'}")

    def _beat(self) -> None:
        with suppress(OSError):  # whoever speaks to it next will notice
            while not self._calm.wait(_PULSE_SECONDS):
                with self._telling:
                    if not self._calm.is_set():
                        self._line.sock.sendall(b"alive\n")

    def rest(self, data: bytes) -> None:
        """Tells it the last that it waits for; its life depends on our voice no longer."""
        self._calm.set()
        self.tell(data)

    def close(self) -> None:
        """Closes its input."""
        self._calm.set()
        self._line.close()
