"""An act of the operator's: a command of the command line as a process of its own; what it tells and asks.

Invariant: an act belongs to itself. When this process goes, it does what it was told and no more. Its end is
told exactly once, however it ends; an answer counts once, for the question that waits for it. What it says is
as hostile as what it shows: length and number have bounds, and whatever is not understood ends it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from math import isfinite
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from claude_bottle.errors import EXIT_FAILED, BottleError, UsageError

_LONGEST = 1 << 20  # bytes of a line
_MOST = 20_000  # lines of an act
_LONGEST_ANSWER = 32_768  # bytes: it must fit into the pipe, as nobody here may wait for its reader
_COMPLAINT = 4096  # bytes of last words
_LEAVE_SECONDS = 5.0  # for an act that has stopped talking, before it is told to end
_UNWIND_SECONDS = 120.0  # and then, before it is killed


class Paired(NamedTuple):
    """A line of a plan."""

    label: str
    text: str


class Said(NamedTuple):
    text: str


class Stepped(NamedTuple):
    """A step that is done."""

    name: str
    ms: float


class Put(NamedTuple):
    """A line of data, such as the slug of what was started."""

    line: str


class Confirm(NamedTuple):
    """It waits for `Act.confirm`."""

    question: str


class Ask(NamedTuple):
    """It waits for `Act.answer`. The value is a secret."""

    question: str


class Failed(NamedTuple):
    """Why it fails. There may be several, as where one command ends several bottles; each may have lines."""

    message: str
    hint: str


class Ended(NamedTuple):
    """The last event. `status` is that of the command line."""

    status: int


Event = Paired | Said | Stepped | Put | Confirm | Ask | Failed | Ended


class NotUnderstood(Exception):
    """What an act has said is no line of `cli.pipe`."""


class Act:
    """Begun by being made. `told` is called from a thread of its own, in order; it must not raise."""

    def __init__(
        self,
        argv: Sequence[str],
        told: Callable[[Event], None],
        environment: Mapping[str, str],
        folder: Path,
        program: Sequence[str] | None = None,
    ) -> None:
        """`argv` is a command and its words: `("start", "reviewer", "--detach")`. Raises BottleError.

        `program` is what takes them, the command line's own pipe unless told.
        """
        self._name = argv[0]
        self._told = told
        self._lock = threading.Lock()
        self._asked: type[Confirm | Ask] | None = None
        self._told_to_end = False
        try:
            self._child = _start([*(program or _pipe_argv()), *argv], environment, folder)
        except (OSError, ValueError) as error:  # ValueError: a word that no program can be given
            raise BottleError(f"{self._name} cannot be started: {error}") from error
        self._gone = False
        threading.Thread(target=self._follow, name=f"act {self._name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def confirm(self, yes: bool) -> None:
        """Answers the `Confirm` that waits; without one it is nothing."""
        self._reply(Confirm, {"yes": yes})

    def answer(self, value: str) -> None:
        """Answers the `Ask` that waits; without one it is nothing. Raises UsageError for a value too long."""
        self._reply(Ask, {"value": value})

    def give_up(self) -> None:
        """It will be told nothing more: what it still waits for it does not do."""
        with self._lock:
            self._asked = None
            self._child.input.close()

    def end(self) -> None:
        """It unwinds what it has begun. A second time is nothing, as a second signal would cut that short."""
        with self._lock:
            if not (self._gone or self._told_to_end):
                self._told_to_end = True
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._child.handle, signal.SIGTERM)

    def _reply(self, kind: type[Confirm | Ask], message: Mapping[str, object]) -> None:
        line = json.dumps(message).encode() + b"\n"
        if len(line) > _LONGEST_ANSWER:
            raise UsageError("this is too long to be handed on")
        with self._lock:
            if self._asked is not kind or self._child.input.closed:
                return
            self._asked = None
            with suppress(BrokenPipeError):  # it has gone meanwhile, and its end is told
                self._child.input.write(line)

    def _follow(self) -> None:
        """The thread's life: what it says, then its end."""
        status, misheard = None, ""
        try:
            status = self._listen()
        except NotUnderstood as error:
            misheard = f"{self._name} says what is not understood: {error}"
            self.end()
        finally:
            self.give_up()
            self._child.output.close()  # so that it need not wait for us, whatever it still has to say
            code, words = self._reap()
        if status is None:
            self._told(Failed(misheard or f"{self._name} broke off: {words}", _HINT))
            status = 128 - code if code < 0 else code or EXIT_FAILED
        self._told(Ended(status))

    def _listen(self) -> int | None:
        """Tells what it says. Its own word for how it ended; None where it stops without one."""
        heard, count = b"", 0
        while part := os.read(self._child.output.fileno(), 65536):
            *lines, heard = (heard + part).split(b"\n")
            for line in lines:
                event = event_of(line)
                count += 1
                if isinstance(event, Ended):
                    return event.status
                if count > _MOST:
                    raise NotUnderstood(f"more than {_MOST} lines")
                if isinstance(event, Confirm | Ask):
                    with self._lock:
                        self._asked = type(event)
                self._told(event)
            if len(heard) > _LONGEST:
                raise NotUnderstood(f"a line of more than {_LONGEST >> 20} MiB")
        return None

    def _reap(self) -> tuple[int, str]:
        """How the process ended, and its last words. One that hangs may not."""
        child = self._child
        if not child.ends_within(_LEAVE_SECONDS):
            self.end()
            if not child.ends_within(_UNWIND_SECONDS):
                child.process.kill()
        code = child.process.wait()
        words = child.last_words() or (f"it ended with signal {-code}" if code < 0 else "it said no word")
        with self._lock:
            self._gone = True
            os.close(child.handle)
        os.close(child.words)
        return code, words


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    input: IO[bytes]
    output: IO[bytes]
    handle: int  # of this process and no other, however late
    words: int  # a file of what it says to nobody in particular, as a crash does

    def ends_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def last_words(self) -> str:
        size = os.fstat(self.words).st_size
        content = os.pread(self.words, _COMPLAINT, max(0, size - _COMPLAINT))
        lines = content.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _start(argv: list[str], environment: Mapping[str, str], folder: Path) -> _Child:
    """In a session of its own: neither the end of the terminal nor Ctrl-C on it is for it."""
    with ExitStack() as undo:
        words = os.memfd_create("act")
        undo.callback(os.close, words)
        process = subprocess.Popen(
            argv,
            bufsize=0,  # a thread that ends with the process may hold no lock of a buffer
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )
        undo.push(process)
        undo.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        child = _Child(process, process.stdin, process.stdout, os.pidfd_open(process.pid), words)
        undo.pop_all()
        return child


_HINT = "claude-bottle list shows what runs, claude-bottle cleanup removes what nothing will use again"


def event_of(line: bytes) -> Event:
    """Raises NotUnderstood."""
    try:
        message = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise NotUnderstood("a line that is not JSON") from None
    event = _event(message) if isinstance(message, dict) else None
    if event is None:
        raise NotUnderstood("a line that is none of its words")
    return event


def _event(message: dict[str, Any]) -> Event | None:
    match message:
        case {"error": str(text), "hint": str(hint)} if len(message) == 2:
            return Failed(text, hint)
        case _ if len(message) > 1:
            return None
        case {"pair": [str(label), str(text)]}:
            return Paired(label, text)
        case {"say": str(text)} | {"heading": str(text)}:
            return Said(text)
        case {"verdict": [bool(good), str(text)]}:
            return Said(f"{'ok' if good else 'NO'}  {text}")
        case {"step": [str(name), float(ms)]} if isfinite(ms):
            return Stepped(name, ms)
        case {"put": str(text)}:
            return Put(text)
        case {"confirm": str(text)}:
            return Confirm(text)
        case {"ask": str(text)}:
            return Ask(text)
        case {"ended": int(status)} if not isinstance(status, bool) and 0 <= status < 256:
            return Ended(status)
    return None


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def _pipe_argv() -> list[str]:
    from claude_bottle.backend.python import whole_python_argv

    return whole_python_argv("cli.pipe")
