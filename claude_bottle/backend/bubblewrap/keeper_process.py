"""The keeper, seen from the command that starts it: a process, and the lines that go to and fro.

Invariant: as long as it was not told "keep" it ends, with its bottle, when this end of its input closes.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from claude_bottle.backend.base import EnvoyFiles, Progress
from claude_bottle.backend.bubblewrap import cradle
from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from claude_bottle.errors import BottleError
from claude_bottle.proc import Result

if TYPE_CHECKING:
    from claude_bottle.backend.bubblewrap.plan import EnvoyPlan

_START_SECONDS = 60.0


class KeeperProcess:
    """A keeper, as long as it still belongs to this process; till there is a bottle it brings Envoy up."""

    def __init__(self) -> None:
        self._early_words = os.memfd_create("keeper")
        self._process = subprocess.Popen(
            python_argv("backend.bubblewrap.keeper", PACKAGE_ROOT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._early_words,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            start_new_session=True,
        )
        self._heard = b""
        self._cradle = ""

    def start_envoy(self, plan: EnvoyPlan, state: str, files: EnvoyFiles) -> None:
        """In a cradle below `state`, until there is a bottle to `adopt` it."""
        from claude_bottle.backend.bubblewrap.early import envoy_start

        cradle.remove_forgotten(state)
        self.envoy_plan = plan
        self._cradle = cradle.new_name(state)
        self.send(envoy_start(plan, self._cradle, files))

    def adopt(self, run: str, folder: str, log: str) -> None:
        """From now on the keeper is the bottle's of this run directory, and Envoy's folder is `folder`."""
        self.send({"run": run, "folder": folder, "log": log})

    def send(self, spec: Mapping[str, object]) -> None:
        self._tell(json.dumps(spec).encode())

    def _tell(self, line: bytes) -> None:
        try:
            _pipe(self._process.stdin).write(line + b"\n")
            _pipe(self._process.stdin).flush()
        except BrokenPipeError:
            while True:  # until it raises: it has said why it ended, or its output ends
                self._next(_START_SECONDS)

    def await_ready(self, progress: Progress) -> None:
        """Passes on each step. Raises BottleError with the keeper's own reason."""
        while not (message := self._next(_START_SECONDS)).get("ready"):
            progress(message["step"], message["ms"])

    def probe(self, questions: bytes, timeout: float) -> Result:
        self._tell(questions)
        message = self._next(timeout)
        return Result(message["status"], message["probed"].encode())

    def _next(self, timeout: float) -> dict[str, Any]:
        """What the keeper says next. Raises BottleError for an error of its, its end, or silence."""
        import select

        output = _pipe(self._process.stdout)
        deadline = time.monotonic() + timeout
        while b"\n" not in self._heard:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise BottleError(f"the keeper said nothing for {timeout:.0f} s")
            part = os.read(output.fileno(), 65536)
            if not part:
                raise BottleError(f"the keeper ended: {self._last_words()}")
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise BottleError(message["error"], message.get("hint"))
        return message

    def _last_words(self) -> str:
        """What it said before it had a log."""
        lines = os.pread(self._early_words, 65536, 0).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def keep(self) -> None:
        self._tell(b"keep")
        _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()
        # It may end while this process lives on; nobody else would take its status then.
        threading.Thread(target=self._process.wait, daemon=True).start()

    def abandon(self) -> None:
        """Closes its input, which ends it and the bottle; kills it if that is not enough."""
        with suppress(OSError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()
        cradle.remove(self._cradle)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
