"""What comes back is hostile: whatever it is, the caller ends, with a status that a status can be, and stays small."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE, eventually, running_with
from tests.unit.backend.remote.calls import caller, run, script, started

SMALL = 100 << 20  # bytes of memory; an interpreter takes a fifth of them
LINGERS = "time.sleep(1000)"
BAD = {
    "text": "say(b'HTTP/1.1 200 OK\\r\\n\\r\\n')",
    "zero bytes": "say(bytes(1000))",
    "every byte": "say(bytes(range(256)) * 100)",
    "an unknown kind": "say(frame(b'q', b'x'))",
    "a kind of the callers": "say(frame(b'd', b'x'))",
    "a signal": "say(number(b's', 9))",
    "too long": "say(b'o' + struct.pack('>I', 65537))",
    "far too long": "say(b'o' + b'\\xff' * 4 + b'x' * 100000)",
    "credit of no size": "say(frame(b'c'))",
    "credit of two numbers": "say(number(b'c', 1, 1))",
    "half a status": "say(frame(b'x', b'\\0'))",
    "a status of no size": "say(frame(b'x'))",
    "a long status": "say(frame(b'x', bytes(8)))",
    "output after the status": "say(number(b'x', 0) + frame(b'o', b'late'))",
    "two statuses": "say(number(b'x', 0) + number(b'x', 1))",
    "good, then bad": "say(frame(b'o', b'good') + b'?????')",
}
CUT = {
    "nothing": "",
    "half a head": "say(b'o\\0\\0')",
    "half a payload": "say(frame(b'o', b'abcdef')[:-1])",
    "no status": "say(frame(b'o', b'out'))",
    "silence, though it stays": f"os.close(1); {LINGERS}",
}


@pytest.mark.parametrize("end", ["", LINGERS], ids=["ends", "lingers"])
@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_a_byte_out_of_place_ends_it_with_125(place: Path, body: str, end: str) -> None:
    """Though the transport stays, and whatever is said to it."""
    status, _, err = run(caller(script(place, f"{body}\n{end}")))
    assert status == 125
    assert err.startswith(b"claude-bottle: the bottle says what it must not: ")
    assert err.count(b"\n") == 1
    assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("body", CUT.values(), ids=CUT)
def test_a_stream_that_ends_too_early_is_125(place: Path, body: str) -> None:
    status, _, err = run(caller(script(place, body)))
    assert status == 125
    assert b"Traceback" not in err
    assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("value", [256, 1 << 16, 1 << 31, (1 << 32) - 9, (1 << 32) - 1])
def test_a_status_that_is_none_is_never_a_success(place: Path, value: int) -> None:
    assert run(caller(script(place, f"say(number(b'x', {value}))\n{LINGERS}"))) == (255, b"", b"")


def test_what_it_says_about_itself_shows_no_escapes(place: Path) -> None:
    for kind in (b"\x1b", b"\x9b", b"\r", b"\n", b"\xff"):
        _, _, err = run(caller(script(place, f"say(frame({kind!r}, b'x'))")))
        assert err.endswith(b"\n")
        assert all(byte in range(0x20, 0x7F) for byte in err[:-1]), err


def test_a_transport_that_stays_after_the_status_holds_nobody_up(place: Path) -> None:
    body = f"say(frame(b'o', b'out') + number(b'x', 3))\n{LINGERS}"
    assert run(caller(script(place, body)), b"x" * (1 << 20)) == (3, b"out", b"")
    assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("credit", [1, (1 << 31) - 1, (1 << 32) - 1])
def test_credit_beyond_what_was_sent_is_worth_nothing(place: Path, credit: int) -> None:
    """So that no more than a window is ever under way."""
    body = f"""
say(number(b'c', {credit}) * 1000)
got = 0
while select.select([0], [], [], 1.0)[0]:
    got += len(os.read(0, 65536))
say(frame(b'o', b'%d' % got) + number(b'x', 0))
"""
    status, out, _ = run(caller(script(place, body)), b"x" * (8 << 20))
    assert status == 0
    assert 0 < int(out) <= 2 * (256 << 10) + 4096


def test_credit_without_end_does_not_fill_the_callers_memory(place: Path) -> None:
    """One frame at a time, each after the caller has taken the one before."""
    body = """
import array, fcntl, termios
def waiting():
    found = array.array("i", [0])
    fcntl.ioctl(1, termios.FIONREAD, found)
    return found[0]
for _ in range(20000):
    say(number(b"c", 0xffffffff))
    while waiting():
        pass
with open(f"/proc/{os.getppid()}/status") as file:
    peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
open(sys.argv[1] + "/peak", "w").write(peak)
say(number(b"x", 7))
"""
    with open("/dev/zero", "rb") as zero:
        with started(place, caller(script(place, body)), stdin=zero.fileno()) as process:
            assert process.wait(60) == 7
    assert int((place / "peak").read_text()) << 10 < SMALL


FLOOD = """
payload = frame({kind}, b"y" * 65536) if {size} else frame({kind}, b"y") * 1000
os.set_blocking(1, False)
total = 0
while total < 64 << 20 and select.select([], [1], [], 1.0)[1]:
    rest = payload
    while rest and select.select([], [1], [], 1.0)[1]:
        done = os.write(1, rest)
        rest = rest[done:]
        total += done
open(sys.argv[1] + "/total", "w").write(str(total))
open(sys.argv[1] + "/done", "w").close()
"""


@pytest.mark.parametrize("size", [0, 1], ids=["small", "large"])
@pytest.mark.parametrize("kind", [b"o", b"e"])
def test_output_without_end_waits_where_nobody_takes_it(place: Path, kind: bytes, size: int) -> None:
    body = FLOOD.format(kind=kind, size=size)
    with started(place, caller(script(place, body))) as process:
        assert eventually((place / "done").exists)
        assert int((place / "total").read_text()) < 16 << 20
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 125
    assert set(out or err) == {ord("y")}


@pytest.mark.parametrize("size", [0, 1], ids=["small", "large"])
def test_output_without_end_is_passed_on_and_not_kept(place: Path, size: int) -> None:
    body = f"while True: say(frame(b'o', b'y' * 65536) if {size} else frame(b'o', b'y') * 5000)"
    with started(place, caller(script(place, body))) as process:
        assert process.stdout is not None
        total = 0
        while total < (64 << 20 if size else 1 << 20):
            total += len(os.read(process.stdout.fileno(), 1 << 16))
        status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak) << 10 < SMALL


def test_one_that_never_answers_ends_with_its_caller(place: Path) -> None:
    """It hears nothing but the end of its input."""
    body = """
import signal
for item in (1, 2, 3, 13, 15):
    signal.signal(item, signal.SIG_IGN)
open(sys.argv[1] + "/ready", "w").close()
while os.read(0, 65536):
    pass
"""
    with started(place, caller(script(place, body))) as process:
        assert eventually((place / "ready").exists)
        process.kill()
        assert eventually(lambda: running_with(str(place)) == [])


def test_no_more_than_a_window_is_sent_to_one_that_reads_nothing(place: Path) -> None:
    (place / "input").write_bytes(b"x" * (4 << 20))
    with open(place / "input", "rb") as file:
        with started(place, caller(script(place, LINGERS)), stdin=file.fileno()):
            assert eventually(lambda: os.lseek(file.fileno(), 0, os.SEEK_CUR) >= 256 << 10)
            time.sleep(0.1)
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 256 << 10
