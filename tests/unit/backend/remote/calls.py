"""Calls over a transport that is no more than a pipe: `remote.outside` runs `remote.inside` on this very host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from tests.support.processes import PATIENCE, all_processes, eventually, parent_of

FRAMES = """
import os, select, struct, sys, time
def frame(kind, payload=b""):
    return kind + struct.pack(">I", len(payload)) + payload
def number(kind, *values):
    return frame(kind, b"".join(struct.pack(">I", value) for value in values))
def say(data):
    while data:
        data = data[os.write(1, data):]
"""

# Writes until nothing takes it any more, then waits for a signal; each is told by a file.
WRITER = """
import signal
os.chdir(sys.argv[1])
def caught(number, _):
    open(f"caught-{number}", "w").close()
    os._exit(9)
for number in (1, 2, 15):
    signal.signal(number, caught)
os.set_blocking(1, False)
idle = 0
while idle < 20:
    try:
        idle = 0 if os.write(1, b"y" * 4096) else idle
    except BlockingIOError:
        idle += 1
        time.sleep(0.02)
open("full", "w").close()
while True:
    signal.pause()
"""


def transport(place: Path, *argv: str, tty: bool = False, options: tuple[str, ...] = ()) -> list[str]:
    """Runs `argv` in the folder `place`, by which every process of a test is found again."""
    chosen = ["-t"] if tty else []
    return python_argv(
        "backend.remote.inside", PACKAGE_ROOT, *chosen, "-w", str(place), *options, "--", *argv
    )


def caller(transport: list[str], *, tty: bool = False) -> list[str]:
    options = ["-t", "--"] if tty else ["--"]
    return python_argv("backend.remote.outside", PACKAGE_ROOT, *options, *transport)


def call(place: Path, *argv: str, tty: bool = False, options: tuple[str, ...] = ()) -> list[str]:
    return caller(transport(place, *argv, tty=tty, options=options), tty=tty)


def script(place: Path, body: str) -> list[str]:
    """A Python program with `FRAMES` at hand, as a transport or as what is called; `place` is its argument."""
    return [sys.executable, "-I", "-S", "-c", FRAMES + body, str(place)]


def run(argv: list[str], data: bytes = b"") -> tuple[int, bytes, bytes]:
    done = subprocess.run(argv, input=data, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


def appears(path: Path) -> bool:
    return eventually(path.exists)


@contextmanager
def started(place: Path, argv: list[str], **streams: int) -> Iterator[subprocess.Popen[bytes]]:
    """In the folder `place`, so that all of it is found there."""
    chosen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    process = subprocess.Popen(argv, cwd=place, **chosen)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def child_of(process: int) -> int:
    (child,) = [pid for pid in all_processes() if parent_of(pid) == process]
    return child
