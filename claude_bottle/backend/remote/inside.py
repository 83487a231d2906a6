"""Runs one program where this runs, for a caller at the other end of standard input and output.

Rules. 1. The program gets pipes, or a terminal, that are made here; so what it leaves running holds nobody
up. 2. When the caller is gone, which the end of standard input says, the program is killed. 3. Nothing that
the program does or leaves undone keeps a signal from reaching it: nothing here ever blocks. 4. Its status is
told after all that it had written.

Arguments: [-t] [-w DIRECTORY] [-s FILTER] [-e FILE] [-v NAME=VALUE]... -- ARGV; FILE holds more variables,
each ended by a zero byte; the program cannot shed FILTER, a compiled seccomp program. Somebody waits for each
start, so this loads little.
"""

from __future__ import annotations

import os
import select
import sys

from claude_bottle.backend import linux
from claude_bottle.backend.remote.frames import (
    CREDIT,
    DATA,
    END,
    ERR,
    OUT,
    SIGNAL,
    STATUS,
    WINDOW,
    BadFrame,
    Decoder,
    frame,
    numbered,
    numbers,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:  # what `signal` adds to it are enumerations, which take longer to load than all else here
    import _signal as signal

FAILED, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127
_CHUNK = 32 << 10
_PIPE_BYTES = 1 << 20  # the most that a pipe holds for an ordinary user: pipe(7)
_HELD_BYTES = 256 << 10  # of output that the caller has not taken yet
_INWARDS = frozenset((DATA, END, SIGNAL, WINDOW))


class Program:
    """A running program, its input and its outputs, as this process holds them."""

    def __init__(self, process: int, sink: int, outputs: dict[int, bytes], *, terminal: bool) -> None:
        self.process = process
        self.ended = os.pidfd_open(process)
        self.sink = sink
        self.outputs = outputs  # descriptor -> kind of frame
        self._terminal = terminal  # then `sink` is an output as well, and stays open
        self.pending = bytearray()
        self._closing = self._ended = False
        for descriptor in {sink, *outputs}:
            os.set_blocking(descriptor, False)

    def take(self, kind: bytes, payload: bytes) -> None:
        """Does what a frame says. Raises BadFrame."""
        if kind == DATA and not self._ended:
            self.pending += payload
        elif kind == END:
            if self._ended:
                raise BadFrame("the end of the input, twice")
            self._ended, self._closing = True, not self._terminal
        elif kind == SIGNAL:
            self.kill(numbers(payload, 1)[0])
        elif kind == DATA:
            raise BadFrame("input after its end")
        elif self._terminal:
            _set_size(self.sink, *numbers(payload, 2))

    def kill(self, number: int) -> None:
        """The whole group that the program leads."""
        if number not in signal.valid_signals():
            raise BadFrame(f"there is no signal {number}")
        try:
            os.killpg(self.process, number)
        except ProcessLookupError:
            return  # it has just ended: its status is on the way

    def write_some(self) -> int:
        """How many bytes of its input are done with: written, or meant for somebody who has closed it."""
        done = 0
        if self.pending:
            try:
                done = os.write(self.sink, self.pending)
            except BlockingIOError:
                return 0
            except OSError:
                done = len(self.pending)
            del self.pending[:done]
        if not self.pending and self._closing:
            os.close(self.sink)
            self._closing = False
        return done

    @property
    def wants_room(self) -> bool:
        return bool(self.pending) or self._closing


def serve(program: Program) -> int:
    """Until the program has ended and all was told, or the caller is gone; returns its status."""
    decoder, held = Decoder(_INWARDS), bytearray()
    os.set_blocking(0, False)
    os.set_blocking(1, False)
    while True:
        ready = _wait(program, held)
        if 0 in ready and not _hear(program, decoder):
            program.kill(signal.SIGKILL)
            return _status(program.process)
        if ready.get(program.sink, 0) & ~select.POLLIN and (done := program.write_some()):
            held += numbered(CREDIT, done)
        for descriptor in [item for item in program.outputs if ready.get(item, 0) & ~select.POLLOUT]:
            _collect(program, descriptor, held)
        if program.ended in ready:
            for descriptor in list(program.outputs):
                left = _PIPE_BYTES  # more it cannot have written; others may hold the pipe, and go on
                while left > 0 and (taken := _collect(program, descriptor, held)):
                    left -= taken
            status = _status(program.process)
            held += numbered(STATUS, status)
            _flush(held)
            return status
        if 1 in ready and not _tell(held):
            program.kill(signal.SIGKILL)
            return _status(program.process)


def _wait(program: Program, held: bytearray) -> dict[int, int]:
    events = {0: select.POLLIN, program.ended: select.POLLIN}
    if len(held) < _HELD_BYTES:
        events |= dict.fromkeys(program.outputs, select.POLLIN)
    if program.wants_room:
        events[program.sink] = events.get(program.sink, 0) | select.POLLOUT
    if held:
        events[1] = select.POLLOUT
    poll = select.poll()
    for descriptor, mask in events.items():
        poll.register(descriptor, mask)
    return dict(poll.poll())


def _hear(program: Program, decoder: Decoder) -> bool:
    """False when the caller is gone, or is none."""
    try:
        data = os.read(0, _CHUNK)
        for kind, payload in decoder.feed(data):
            program.take(kind, payload)
    except BlockingIOError:
        return True
    except (OSError, BadFrame):
        return False
    return bool(data)


def _collect(program: Program, descriptor: int, held: bytearray) -> int:
    """Takes what the program has written; 0 when there is no more of it now."""
    try:
        data = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return 0
    except OSError:  # a terminal that nobody has open answers EIO
        data = b""
    if not data:
        del program.outputs[descriptor]
        return 0
    held += frame(program.outputs[descriptor], data)
    return len(data)


def _tell(held: bytearray) -> bool:
    """False when nobody listens any more."""
    try:
        del held[: os.write(1, held)]
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _flush(held: bytearray) -> None:
    """What is told at the end may wait for a slow caller, as nothing else is left to do."""
    os.set_blocking(1, True)
    while held and _tell(held):
        pass


def _set_size(terminal: int, rows: int, columns: int) -> None:
    from claude_bottle.backend.terminal import set_size

    set_size(terminal, rows & 0xFFFF, columns & 0xFFFF)


def _status(process: int) -> int:
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def launch(
    argv: list[str],
    directory: str,
    environment: dict[bytes, bytes],
    *,
    terminal: bool,
    filter_program: bytes = b"",
) -> Program:
    """Raises OSError."""
    if terminal:
        from claude_bottle.backend.terminal import open_terminal

        master, slave = open_terminal()
        stdio, sink, outputs = (slave, slave, slave), master, {master: OUT}
    else:
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        stdio, sink, outputs = (stdin[0], stdout[1], stderr[1]), stdin[1], {stdout[0]: OUT, stderr[0]: ERR}
    process = os.fork()
    if process == 0:
        try:
            _attach(stdio, terminal=terminal)
            _become(argv, directory, environment, filter_program)
        finally:
            os._exit(FAILED)
    for descriptor in set(stdio):
        os.close(descriptor)
    return Program(process, sink, outputs, terminal=terminal)


def _attach(stdio: tuple[int, int, int], *, terminal: bool) -> None:
    linux.die_with_parent()
    os.setsid()
    for target, descriptor in enumerate(stdio):
        os.dup2(descriptor, target)
    if terminal:
        from claude_bottle.backend.terminal import take_as_controlling

        take_as_controlling(0)


def _become(
    argv: list[str], directory: str, environment: dict[bytes, bytes], filter_program: bytes
) -> NoReturn:
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and what is ignored stays so
        signal.signal(ignored, signal.SIG_DFL)
    os.umask(0o022)
    at = directory
    try:
        if filter_program:
            linux.no_new_privileges()
            linux.install_seccomp(filter_program)
        os.chdir(directory)
        at = argv[0]
        os.execvpe(argv[0], argv, environment)
    except FileNotFoundError:
        _say(f"{at}: not found in the bottle")
        os._exit(NOT_FOUND)
    except OSError as error:
        _say(f"{at}: {error.strerror}")
        os._exit(CANNOT_EXECUTE)


def _say(text: str) -> None:
    os.write(2, f"claude-bottle: {text}\n".encode(errors="replace"))


def read_variables(path: str) -> dict[bytes, bytes]:
    """Raises OSError, ValueError."""
    with open(path, "rb") as file:
        content = file.read()
    if content and not content.endswith(b"\0"):
        raise ValueError(f"{path} was cut off")
    return dict(map(_variable, content.split(b"\0")[:-1]))


def read_filter(path: str) -> bytes:
    """Raises OSError, ValueError."""
    with open(path, "rb") as file:
        program = file.read()
    if not program or len(program) % 8:
        raise ValueError(f"{path} is no compiled filter")
    return program


def _variable(text: bytes) -> tuple[bytes, bytes]:
    name, equals, value = text.partition(b"=")
    if not name or not equals:
        raise ValueError("a variable without a name or a value")
    return name, value


def main(arguments: list[str]) -> int:
    terminal, directory, environment, filter_program = False, "/", dict(os.environb), b""
    words = iter(arguments)
    for word in words:
        if word == "-t":
            terminal = True
        elif word == "-w":
            directory = next(words)
        elif word == "-s":
            filter_program = read_filter(next(words))
        elif word == "-e":
            environment |= read_variables(next(words))
        elif word == "-v":
            name, value = _variable(os.fsencode(next(words)))
            environment[name] = value
        elif word == "--":
            break
        else:
            raise ValueError(f"unknown option {word}")
    linux.set_dumpable(False)
    linux.forget_arguments("claude-bottle")  # or whoever looks for the program finds this as well
    program = launch(list(words), directory, environment, terminal=terminal, filter_program=filter_program)
    return serve(program)


def start(arguments: list[str]) -> NoReturn:
    """`main`, with every failure turned into a message and status 125."""
    try:
        sys.exit(main(arguments))
    except (OSError, ValueError) as error:
        _say(f"cannot run it: {error}")
    except StopIteration:
        _say("cannot run it: an option without its value")
    sys.exit(FAILED)
