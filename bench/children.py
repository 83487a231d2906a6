"""Starts what is measured and what helps to measure, and lets none of it outlive the one who started it.

Invariant: every program here leads a session of its own, so Ctrl-C reaches the benchmark alone; that asks
its programs to end, waits for them, and insists. A helper also ends when its standard input does.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
COMMAND = str(ROOT / ".venv" / "bin" / "claude-bottle")
_PATIENCE = 60.0
_GRACE = 15.0  # from being asked to end until it is made to
_FAREWELL = 3.0  # for a helper to end by itself


class UnmeasuredError(Exception):
    """A benchmark could not be run; the message says why."""


def whole_process(
    argv: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> float:
    """The seconds from starting a program to its end. Raises UnmeasuredError unless it ends well."""
    with tempfile.TemporaryFile() as complaints:
        began = time.perf_counter()
        process = _started(argv, environment, cwd, stdout=subprocess.DEVNULL, stderr=complaints)
        with ended_after(process):
            status = ended(process, argv)
            took = time.perf_counter() - began
        if status != 0:
            complaints.seek(0)
            raise failed(argv, status, complaints.read())
    return took


def timed_lines(
    argv: Sequence[str], environment: Mapping[str, str], cwd: Path
) -> tuple[str, list[tuple[float, str]], float]:
    """Its standard output; each line of its standard error, and when it came; and its seconds in all."""
    lines: list[tuple[float, str]] = []
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = _started(argv, environment, cwd, stdout=output, stderr=subprocess.PIPE)
        with ended_after(process):
            for line in stream_of(process.stderr):
                lines.append((time.perf_counter() - began, line.decode(errors="replace").rstrip()))
            status = ended(process, argv)
            took = time.perf_counter() - began
        if status != 0:
            raise failed(argv, status, "\n".join(line for _, line in lines[-2:]).encode())
        output.seek(0)
        return output.read().decode(), lines, took


def ended(process: subprocess.Popen[bytes], argv: Sequence[str]) -> int:
    """Its status, at the moment of its end: `Popen.wait` with a limit would look only every 50 ms."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            raise UnmeasuredError(f"`{' '.join(argv)[:100]}` did not end within {_PATIENCE:.0f} s")
    finally:
        os.close(pidfd)
    return process.wait()


def failed(argv: Sequence[str], status: int, complaints: bytes) -> UnmeasuredError:
    words = " ".join(complaints.decode(errors="replace").split("\n")[-3:]).strip()
    return UnmeasuredError(f"`{' '.join(argv)[:100]}` ended with {status}: {words[:300]}")


def _started(
    argv: Sequence[str], environment: Mapping[str, str] | None, cwd: Path | None, stdout: Any, stderr: Any
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        cwd=cwd,
        start_new_session=True,
    )


@contextmanager
def ended_after(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens in between, the process has ended afterwards: asked first, then made to."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def on_terminal(argv: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Iterator[int]:
    """What shows the screen of a terminal of 100 by 30 in which a program runs; it has ended afterwards."""
    screen, terminal = os.openpty()
    try:
        termios.tcsetwinsize(terminal, (30, 100))
        process = subprocess.Popen(
            argv,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        with ended_after(process):
            yield screen
    finally:
        os.close(terminal)
        os.close(screen)


class Helper:
    """A module of this folder as a process of its own, spoken to in JSON lines."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self._process = process
        self._name = name

    def ask(self, **question: Any) -> dict[str, Any]:
        """Raises UnmeasuredError where there is no answer, or the answer is an error."""
        stream_of(self._process.stdin).write(json.dumps(question).encode() + b"\n")
        stream_of(self._process.stdin).flush()
        line = stream_of(self._process.stdout).readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            raise UnmeasuredError(f"{self._name}: {answer['error']}")
        return answer


@contextmanager
def helper(name: str) -> Iterator[Helper]:
    process = subprocess.Popen(
        [PYTHON, "-m", f"bench.{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    with ended_after(process):
        try:
            yield Helper(process, name)
        finally:
            with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                stream_of(process.stdin).close()
                process.wait(_FAREWELL)


def questions() -> Iterator[dict[str, Any]]:
    """In a helper: what it is asked, until its standard input ends."""
    for line in sys.stdin.buffer:
        yield json.loads(line)


def answer(**values: Any) -> None:
    """In a helper: says one thing back."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """In a helper: answers every question by `handle`; what goes wrong is the answer as well."""
    for question in questions():
        try:
            answer(**handle(question))
        except (OSError, ValueError, KeyError) as error:
            answer(error=f"{type(error).__name__}: {error}")


def stream_of(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
