"""Takes from a process what it does not need, where its container or namespaces have not done so.

Invariant: a program is not run where a limit could not be set. Envoy reads what an agent sends and shares
the bundle's container, so it gets the system calls of an agent
and no more, and no sight of the bundle's memory.

Sources: prctl(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 4, 38, 22, 2
_INSTRUCTION = 8  # bytes of struct sock_filter


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _prctl(option: int, first: int, second: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    if libc.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def set_undumpable() -> None:
    """No process of the same user may read or trace this one. Raises OSError."""
    _prctl(_PR_SET_DUMPABLE, 0)


def confined(filter_path: str, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` under the system call filter in a file."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), filter_path, *argv]


def become(filter_path: str, argv: Sequence[str]) -> None:
    """Never returns. Raises OSError where the filter could not be set; then nothing was run."""
    with open(filter_path, "rb") as file:
        content = file.read()
    program = _Program(len(content) // _INSTRUCTION, content)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))
    os.execv(argv[0], list(argv))


if __name__ == "__main__":
    become(sys.argv[1], sys.argv[2:])
