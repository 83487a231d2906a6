"""A real terminal of the host, with a program in it, and what stands in its input when that program has ended."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PATIENCE = 30.0


@dataclass
class Terminal:
    """The operator's terminal: `screen` is what was shown on it so far."""

    master: int
    slave: int
    process: subprocess.Popen[bytes]
    screen: bytearray = field(default_factory=bytearray)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def resize(self, rows: int, columns: int) -> None:
        size = rows.to_bytes(2, "little") + columns.to_bytes(2, "little") + bytes(4)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def wait_for(self, text: bytes) -> None:
        self._watch(lambda: text in self.screen)
        assert text in self.screen, bytes(self.screen)

    def finish(self) -> int:
        """The program's exit status; what it showed until then is on the screen."""
        self._watch(lambda: self.process.poll() is not None)
        self._read(0.1)
        return self.process.wait(5)

    def left_to_read(self) -> bytes:
        """What the next program of this terminal would find typed in: nothing, if nobody typed."""
        tty.setraw(self.slave, termios.TCSANOW)  # the default would throw away what is looked for
        ready, _, _ = select.select([self.slave], [], [], 0.2)
        return os.read(self.slave, 4096) if ready else b""

    def _watch(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not enough() and time.monotonic() < deadline:
            self._read(0.05)

    def _read(self, seconds: float) -> None:
        while select.select([self.master], [], [], seconds)[0]:
            self.screen += os.read(self.master, 65536)
            seconds = 0.0


@contextmanager
def terminal(argv: list[str], environment: dict[str, str] | None = None) -> Iterator[Terminal]:
    """Runs `argv` with a new terminal as its controlling one."""
    master, slave = pty.openpty()

    def take_control() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, env=environment, preexec_fn=take_control
    )
    try:
        yield Terminal(master, slave, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
