"""Holds the terminal in which claude runs, and shows it to whoever is attached.

Rules. 1. Claude's terminal is read whether or not anybody looks. 2. What a viewer has not taken is kept up to
`_PENDING_BYTES`; then the viewer goes, and not the agent. 3. The size is that of the viewer which came, or
changed it, last. 4. A program that draws all of its screen does so when its size changes: for a viewer that
comes later the size is changed and changed back. 5. If this process ends, however it ends, claude does.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import termios
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.backend.remote.frames import (
    AGAIN,
    DATA,
    ERR,
    MAX_PAYLOAD,
    OUT,
    STATUS,
    BadFrame,
    Decoder,
    frame,
    numbered,
    numbers,
)
from claude_bottle.operations.session.door import FROM_VIEWER
from claude_bottle.operations.session.filter import Filter

_CHUNK = 16 << 10
_PENDING_BYTES = 4 << 20
_TYPED_BYTES = 64 << 10
_EARLY_BYTES = 256 << 10
_VIEWERS = 16
_LAST_WORDS_SECONDS = 5.0
_NUDGE_SECONDS = (0.1, 1.0)  # at least, and at most where nothing is drawn


class Size(NamedTuple):
    rows: int
    columns: int


class Program(NamedTuple):
    """A program in a terminal of this process's own. `ended` is a pidfd."""

    master: int
    process: subprocess.Popen[bytes]
    ended: int


def spawn(argv: list[str], size: Size) -> Program:
    """Raises OSError."""
    from claude_bottle.backend.linux import die_with_parent
    from claude_bottle.backend.terminal import set_size

    master, slave = os.openpty()

    def become_its_own() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        die_with_parent()

    try:
        set_size(master, *size)
        process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=become_its_own,
        )
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    os.set_blocking(master, False)
    return Program(master, process, os.pidfd_open(process.pid))


class Viewer:
    """An attached terminal, and what it has still to take."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.looking = False  # it has said how large it is
        self.dropped = False
        self._decoder = Decoder(FROM_VIEWER)
        self._pending: deque[bytes] = deque()
        self._begun = False  # of the first one a part is under way
        self._bytes = 0

    @property
    def waiting(self) -> bool:
        return bool(self._pending)

    def tell(self, *frames: bytes) -> None:
        if self.dropped:
            return
        self._pending += frames
        self._bytes += sum(map(len, frames))
        if self._bytes > _PENDING_BYTES:
            self._drop()

    def _drop(self) -> None:
        kept = [self._pending[0]] if self._begun else []
        words = frame(ERR, b"this terminal was too slow and was left out; the agent works on")
        self._pending = deque([*kept, words])
        self._bytes = sum(map(len, self._pending))
        self.dropped = True

    def send(self) -> bool:
        """False when it is to be forgotten: it is gone, or was told all that it will be."""
        while self._pending:
            try:
                sent = self.sock.send(self._pending[0])
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._bytes -= sent
            self._begun = sent < len(self._pending[0])
            if not self._begun:
                self._pending.popleft()
            else:
                self._pending[0] = self._pending[0][sent:]
        return not self.dropped

    def hear(self) -> list[tuple[bytes, bytes]] | None:
        """What it says; None when it is gone, or is no viewer."""
        try:
            data = self.sock.recv(_CHUNK)
            return list(self._decoder.feed(data)) if data else None
        except BlockingIOError:
            return []
        except (OSError, BadFrame):
            return None


class Holder:
    """One program and its viewers, until the program ends."""

    def __init__(
        self, listener: socket.socket, program: Program, size: Size, bell: int | None = None
    ) -> None:
        """`bell` is an eventfd(2): whoever writes to it, in this process, has the viewers' bells rung."""
        self._bell = bell
        self._listener = listener
        self._program = program
        self._size = size
        self._open = True
        self._filter = Filter()
        self._early: bytearray | None = bytearray()  # what nobody has seen yet
        self._viewers: dict[int, Viewer] = {}
        self._typed = bytearray()
        self._nudged = 0.0  # when the size was changed in order to be changed back

    def serve(self) -> int:
        """The program's exit status."""
        running = True
        while running:
            ready = self._wait()
            if self._program.master in ready:
                self._show(self._read())
            if self._typed:
                self._type()
            if self._bell in ready:
                self._ring()
            for number, viewer in list(self._viewers.items()):
                events = ready.get(number, 0)
                gone = bool(events & ~select.POLLOUT) and not self._hear(viewer)
                if gone or (events & select.POLLOUT and not viewer.send()):
                    self._forget(number)
            if self._listener.fileno() in ready:
                self._welcome()
            self._end_nudge()
            running = self._program.ended not in ready
        left = _EARLY_BYTES
        while left > 0 and (data := self._read()):  # others may have the terminal open, and go on
            self._show(data)
            left -= len(data)
        status = self._program.process.wait()
        return status if status >= 0 else 128 - status

    def farewell(self, words: str, status: int | None) -> None:
        """Tells every viewer how it ended, those that knocked meanwhile included.

        Without a status it has not: there is, or will be, another holder to go to.
        """
        self._welcome()
        self._listener.close()  # who comes now comes to the next one
        text = words.encode()[: MAX_PAYLOAD - 1]
        for viewer in self._viewers.values():
            if self._early:
                viewer.tell(*_outputs(bytes(self._early)))
            viewer.tell(frame(ERR, text), frame(AGAIN) if status is None else numbered(STATUS, status))
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while self._viewers and time.monotonic() < deadline:
            poll = select.poll()
            for number in self._viewers:
                poll.register(number, select.POLLOUT)
            for number, _ in poll.poll((deadline - time.monotonic()) * 1000):
                if not self._viewers[number].send() or not self._viewers[number].waiting:
                    self._forget(number)

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._program.ended, select.POLLIN)
        if self._bell is not None:
            poll.register(self._bell, select.POLLIN)
        if self._open:
            poll.register(self._program.master, select.POLLIN | (select.POLLOUT if self._typed else 0))
        listening = select.POLLIN if len(self._typed) < _TYPED_BYTES else 0
        for number, viewer in self._viewers.items():
            poll.register(number, listening | (select.POLLOUT if viewer.waiting else 0))
        return dict(poll.poll(_NUDGE_SECONDS[0] * 1000 if self._nudged else None))

    def _read(self) -> bytes:
        try:
            return os.read(self._program.master, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: the program has closed it, and its end is on the way
            self._open = False
            return b""

    def _show(self, data: bytes) -> None:
        shown = self._filter.feed(data)
        if self._early is not None:
            self._early += shown
            del self._early[:-_EARLY_BYTES]
        for viewer in self._viewers.values():
            if viewer.looking:
                viewer.tell(*_outputs(shown))
        if shown and self._nudged and time.monotonic() - self._nudged > _NUDGE_SECONDS[0]:
            self._set_size(self._size)

    def _ring(self) -> None:
        """Between two frames no sequence is under way, so this is heard and not drawn."""
        assert self._bell is not None
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        for viewer in self._viewers.values():
            if viewer.looking:
                viewer.tell(frame(OUT, b"\a"))

    def _type(self) -> None:
        try:
            del self._typed[: os.write(self._program.master, self._typed)]
        except BlockingIOError:
            pass
        except OSError:
            self._typed.clear()

    def _hear(self, viewer: Viewer) -> bool:
        """False when the viewer is gone, or is none."""
        said = viewer.hear()
        if said is None:
            return False
        for kind, payload in said:
            if kind == DATA:
                self._typed += payload
                continue
            try:
                rows, columns = numbers(payload, 2)
            except BadFrame:
                return False
            self._look(viewer, Size(max(1, min(rows, 9999)), max(2, min(columns, 9999))))
        return True

    def _look(self, viewer: Viewer, size: Size) -> None:
        came, viewer.looking = not viewer.looking, True
        same = size == self._size
        self._size = size
        if not came or not same:
            self._set_size(size)
        if not came:
            return
        if self._early is not None:  # it sees everything from the start
            viewer.tell(*_outputs(bytes(self._early)))
            self._early = None
            return
        viewer.tell(*_outputs(self._filter.entering()))
        if same:
            self._set_size(size._replace(columns=size.columns - 1))
            self._nudged = time.monotonic()

    def _set_size(self, size: Size) -> None:
        from claude_bottle.backend.terminal import set_size

        self._nudged = 0.0
        with suppress(OSError):  # the program has closed its terminal, and its end is on the way
            set_size(self._program.master, *size)

    def _end_nudge(self) -> None:
        if self._nudged and time.monotonic() - self._nudged > _NUDGE_SECONDS[1]:
            self._set_size(self._size)

    def _welcome(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # nobody waits any more
                return
            if len(self._viewers) < _VIEWERS:
                self._viewers[sock.fileno()] = Viewer(sock)
                continue
            with suppress(OSError):
                sock.send(frame(ERR, b"too many terminals are attached"))
            sock.close()

    def _forget(self, number: int) -> None:
        self._viewers.pop(number).sock.close()


def _outputs(data: bytes) -> list[bytes]:
    return [frame(OUT, data[at : at + MAX_PAYLOAD]) for at in range(0, len(data), MAX_PAYLOAD)]
