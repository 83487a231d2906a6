"""A program that does not want to end: when the operator says stop, or the keeper dies, it ends all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from claude_bottle.operations.launch import Launched
from tests.support.bottles import World, make_world, python_inside
from tests.support.keepers import keeper_of, kill
from tests.support.processes import alive, command_of, descendants, eventually, parent_of

# The first process of the bottle ends with its parent, since it asked for that itself: prctl(2), PR_SET_PDEATHSIG.
# It is of the same user and can thus be traced, and be made to take it back.
TAKE_IT_BACK = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
ATTACH, GETREGS, SETREGS, STEP, DETACH = 16, 12, 13, 9, 17
RAX, RSI, RDI, ORIG_RAX, RIP = 10, 13, 14, 15, 16
Registers = ctypes.c_ulonglong * 27
def trace(request, data=None):
    if libc.ptrace(request, 1, None, data) != 0:
        sys.exit(f"refused: {ctypes.get_errno()}")
trace(ATTACH)
os.waitpid(1, 0x40000000)
before, changed = Registers(), Registers()
trace(GETREGS, ctypes.byref(before))
trace(GETREGS, ctypes.byref(changed))
changed[RAX], changed[RDI], changed[RSI], changed[ORIG_RAX] = 157, 1, 0, 2**64 - 1
changed[RIP] = before[RIP] - 2
trace(SETREGS, ctypes.byref(changed))
trace(STEP)
os.waitpid(1, 0x40000000)
trace(GETREGS, ctypes.byref(changed))
trace(SETREGS, ctypes.byref(before))
trace(DETACH)
print("taken back" if changed[RAX] == 0 else f"answer {changed[RAX]}")
"""
STAY = """
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_IGN)
null = os.open("/dev/null", os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(null, descriptor)
time.sleep(600)
"""


def stubborn(launched: Launched) -> dict[int, str]:
    """All of the bottle's processes, of which some do what they can to stay."""
    if os.uname().machine == "x86_64":
        done = python_inside(launched.bottle, TAKE_IT_BACK)
        assert done.text == "taken back\n" or b"refused" in done.stderr
    assert python_inside(launched.bottle, STAY).status == 0
    return descendants(keeper_of(launched))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Keepers and guards are this backend's own."""
    return make_world(tmp_path, "bubblewrap")


@pytest.fixture
def launched(world: World) -> Iterator[Launched]:
    launched = world.launch()
    everything = descendants(keeper_of(launched))
    yield launched
    for pid in alive(everything):  # a test that has failed leaves nothing
        with suppress(ProcessLookupError):
            kill(pid)


def test_a_stubborn_program_ends_when_the_bottle_is_stopped(launched: Launched) -> None:
    everything = stubborn(launched)
    launched.bottle.stop()
    assert eventually(lambda: not alive(everything)), alive(everything)


def test_a_stubborn_program_ends_when_the_keeper_is_killed(launched: Launched) -> None:
    everything = stubborn(launched)
    kill(keeper_of(launched))
    assert eventually(lambda: not alive(everything)), alive(everything)
    launched.bottle.stop()


def test_what_survives_even_the_guard_ends_at_the_next_stop(launched: Launched) -> None:
    everything = stubborn(launched)
    keeper = keeper_of(launched)
    guards = [pid for pid in everything if parent_of(pid) == keeper and command_of(pid) == "claude-bottle"]
    assert len(guards) == 1
    os.kill(keeper, signal.SIGSTOP)  # else it would see its guard end
    kill(guards[0])
    kill(keeper)
    assert eventually(lambda: keeper not in alive(everything))
    launched.bottle.stop()
    assert eventually(lambda: not alive(everything)), alive(everything)


def test_a_bottle_without_its_guard_ends(launched: Launched) -> None:
    everything = descendants(keeper_of(launched))
    keeper = keeper_of(launched)
    (guard,) = [pid for pid in everything if parent_of(pid) == keeper and command_of(pid) == "claude-bottle"]
    kill(guard)
    assert eventually(lambda: not alive(everything)), alive(everything)


@pytest.mark.needs("root")  # nobody else may look at its descriptors
def test_the_guard_holds_nothing_of_the_keepers(launched: Launched) -> None:
    keeper = keeper_of(launched)
    (guard,) = [
        pid for pid in descendants(keeper) if parent_of(pid) == keeper and command_of(pid) == "claude-bottle"
    ]
    held = {
        os.readlink(f"/proc/{guard}/fd/{name}").partition(":")[0] for name in os.listdir(f"/proc/{guard}/fd")
    }
    assert held == {"socket", "anon_inode"}
    assert len(os.listdir(f"/proc/{guard}/fd")) == 2
