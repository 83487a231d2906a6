"""The end beside the program, spoken to in frames: what it starts, and that whatever is out of order kills it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_bottle.backend.remote import frames
from claude_bottle.backend.remote.frames import (
    CREDIT,
    DATA,
    END,
    ERR,
    OUT,
    SIGNAL,
    STATUS,
    WINDOW,
    Decoder,
    frame,
    numbered,
    numbers,
)
from claude_bottle.backend.seccomp import compile_filter
from tests.support.processes import PATIENCE, eventually, running_with
from tests.unit.backend.remote.calls import call, run, started, transport

KNOWN = frozenset((OUT, ERR, CREDIT, STATUS))
# Ignores all that can be ignored, and has a child in its group that does so as well.
STUBBORN = "trap '' TERM HUP INT QUIT PIPE; sleep 1000 & echo ready; while :; do sleep 1000; done"


class Inside:
    """One, and the frames that have come from it so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._frames = self._read()

    def _read(self) -> Iterator[tuple[bytes, bytes]]:
        assert self.process.stdout is not None
        decoder = Decoder(KNOWN)
        while data := os.read(self.process.stdout.fileno(), 1 << 16):
            yield from decoder.feed(data)

    def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self, text: bytes) -> None:
        """Waits until the program has said it."""
        said = b""
        while text not in said:
            kind, payload = next(self._frames)
            said += payload if kind == OUT else b""

    def rest(self) -> list[tuple[bytes, bytes]]:
        return list(self._frames)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None


def output(found: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(payload for kind, payload in found if kind == OUT)


def total(found: list[tuple[bytes, bytes]]) -> int:
    return sum(numbers(payload, 1)[0] for kind, payload in found if kind == CREDIT)


def status(found: list[tuple[bytes, bytes]]) -> int:
    """Of the last frame, which is the only one of its kind."""
    assert [kind for kind, _ in found].index(STATUS) == len(found) - 1
    return numbers(found[-1][1], 1)[0]


@pytest.fixture
def stubborn(place: Path, request: pytest.FixtureRequest) -> Iterator[Inside]:
    argv = transport(place, "sh", "-c", STUBBORN, tty=getattr(request, "param", False))
    with started(place, argv, stdin=subprocess.PIPE) as process:
        inside = Inside(process)
        inside.hear(b"ready")
        yield inside


GARBAGE = {
    "nothing known": b"GET / HTTP/1.1\r\n\r\n",
    "zero bytes": bytes(100),
    "a kind of ours": frame(OUT, b"x"),
    "the status": numbered(STATUS, 0),
    "too long": DATA + struct.pack(">I", frames.MAX_PAYLOAD + 1),
    "far too long": DATA + b"\xff\xff\xff\xff",
    "no signal": frame(SIGNAL),
    "half a signal": frame(SIGNAL, b"\0\x0f"),
    "two signals": numbered(SIGNAL, 15, 15),
    "signal 0": numbered(SIGNAL, 0),
    "signal 32": numbered(SIGNAL, 32),
    "signal 65": numbered(SIGNAL, 65),
    "a negative signal": numbered(SIGNAL, (1 << 32) - 15),
    "good, then bad": frame(DATA, b"x") + b"?????",
    "the end twice": frame(END) + frame(END),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_what_is_out_of_order_kills_the_whole_group(place: Path, stubborn: Inside, garbage: bytes) -> None:
    stubborn.say(garbage)
    stubborn.process.wait(PATIENCE)
    assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("stubborn", [True], indirect=True, ids=["terminal"])
@pytest.mark.parametrize("window", [b"", b"\0\x18\0\x50", b"\0" * 12], ids=["no", "small", "large"])
def test_a_window_of_another_size_kills_as_well(place: Path, stubborn: Inside, window: bytes) -> None:
    stubborn.say(frame(WINDOW, window))
    stubborn.process.wait(PATIENCE)
    assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("cut", [0, 1, 4, 6])
def test_the_end_of_the_stream_kills_in_the_midst_of_a_frame_too(
    place: Path, stubborn: Inside, cut: int
) -> None:
    stubborn.say(frame(DATA, b"abc")[:cut])
    stubborn.close()
    stubborn.process.wait(PATIENCE)
    assert eventually(lambda: running_with(str(place)) == [])


def test_nobody_to_be_told_kills_as_well(place: Path) -> None:
    """The other half of the stream: a caller may be gone while something holds its input open."""
    program = "trap '' TERM PIPE; echo ready; while :; do echo more; sleep 0.01; done"
    argv = transport(place, "sh", "-c", program)
    with started(place, argv, stdin=subprocess.PIPE) as process:
        Inside(process).hear(b"ready")
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert eventually(lambda: running_with(str(place)) == [])


def test_credit_is_given_for_what_was_taken_and_no_more(place: Path) -> None:
    argv = transport(place, "sh", "-c", "head -c 5 >&2; read x; exec cat")
    with started(place, argv, stdin=subprocess.PIPE) as process:
        inside = Inside(process)
        inside.say(frame(DATA, b"12345") + frame(DATA, b"go\n" + b"x" * 1000) + frame(DATA) + frame(END))
        found = inside.rest()
    assert (status(found), total(found), output(found)) == (0, 1008, b"x" * 1000)


def test_a_signal_goes_to_the_whole_group(place: Path) -> None:
    child = "trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.01; done"
    program = f"trap 'wait; exit 4' USR1; ({child}) & wait"
    with started(place, transport(place, "sh", "-c", program), stdin=subprocess.PIPE) as process:
        inside = Inside(process)
        inside.hear(b"ready")
        inside.say(numbered(SIGNAL, signal.SIGUSR1))
        found = inside.rest()
    assert (status(found), output(found)) == (4, b"child\n")


def test_its_own_arguments_are_nowhere_to_be_read(place: Path) -> None:
    argv = transport(place, "sh", "-c", "echo ready; exec sleep 1000", options=("-v", "TOKEN=private"))
    with started(place, argv, stdin=subprocess.PIPE) as process:
        Inside(process).hear(b"ready")
        line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert line.rstrip(b"\0") == b"claude-bottle"


PLAIN = """
import os, signal
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:3], len(os.listdir("/proc/self/fd")))
print(os.getpgid(0) == os.getsid(0) in (os.getpid(), os.getppid()), oct(os.umask(0)), os.getcwd())
"""


def test_a_program_begins_plainly(place: Path) -> None:
    """Three streams, a session and a group of its own, the usual mask, and no signal blocked or ignored for it."""
    _, out, err = run(call(place, sys.executable, "-I", "-S", "-c", PLAIN))
    assert err == b""
    assert out.decode().splitlines() == ["[0, 1, 2] 4", f"True 0o22 {place}"]  # the fourth lists them
    _, out, _ = run(call(place, "cat", "/proc/self/status"))
    masks = dict(line.split(":\t") for line in out.decode().splitlines() if line.startswith("Sig"))
    of_python = sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))
    assert (int(masks["SigBlk"], 16), int(masks["SigIgn"], 16) & of_python) == (0, 0)


def variables(place: Path, content: bytes, *options: str) -> tuple[int, list[bytes], bytes]:
    (place / "variables").write_bytes(content)
    given = ("-e", str(place / "variables"), *options)
    program = ["sh", "-c", "touch ran; env -0"]
    done = run(call(place, *program, options=given))
    return done[0], done[1].split(b"\0"), done[2]


def test_variables_come_from_the_file_and_the_arguments(place: Path) -> None:
    content = b"A=1\0B=two\nlines=\xff\0EMPTY=\0C=file\0"
    found = variables(place, content, "-v", "C=argument", "-v", "D=a=b")
    assert found[0] == 0
    assert {b"A=1", b"B=two\nlines=\xff", b"EMPTY=", b"C=argument", b"D=a=b"} <= set(found[1])
    assert variables(place, b"")[0] == 0


@pytest.mark.parametrize(
    ("content", "options"),
    [
        pytest.param(b"A\0", [], id="no-value"),
        pytest.param(b"A=1\0\0", [], id="nothing"),
        pytest.param(b"A=1\0B=cut of", [], id="cut-off"),
        pytest.param(b"A=1\n", [], id="never-ended"),
        pytest.param(b"=1\0", [], id="no-name"),
        pytest.param(b"", ["-v", "A"], id="argument-without-value"),
        pytest.param(b"", ["-v", "=1"], id="argument-without-name"),
        pytest.param(b"", ["-e", "gone"], id="no-file"),
        pytest.param(b"", ["-e", "/"], id="folder"),
        pytest.param(b"", ["-s", "gone"], id="no-filter"),
        pytest.param(b"", ["-s", os.devnull], id="empty-filter"),
        pytest.param(b"", ["-x"], id="unknown-option"),
        pytest.param(b"", ["A=1"], id="no-option"),
    ],
)
def test_variables_out_of_order_run_nothing(place: Path, content: bytes, options: list[str]) -> None:
    code, _, err = variables(place, content, *options)
    assert (code, (place / "ran").exists()) == (125, False)
    assert err.startswith(b"claude-bottle: ")


def test_the_program_and_its_children_have_the_filter(place: Path) -> None:
    (place / "filter").write_bytes(compile_filter(os.uname().machine))
    asked = "grep ^Seccomp: /proc/self/status; unshare -U true"
    code, out, _ = run(call(place, "sh", "-c", asked, options=("-s", str(place / "filter"))))
    assert (code != 0, out) == (True, b"Seccomp:\t2\n")


@pytest.mark.parametrize("arguments", [[], ["--"], ["-w"], ["-v"], ["-w", "/", "--"]])
def test_no_program_is_a_plain_error(place: Path, arguments: list[str]) -> None:
    argv = transport(place)
    with started(place, [*argv[: argv.index("-w")], *arguments], stdin=subprocess.PIPE) as process:
        found = Inside(process).rest()
        assert (status(found) if found else process.wait(PATIENCE)) == 125
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
