"""Envoy, or whatever program serves beside the bundle: started, watched, and never outliving it.

Invariant: the program gets SIGKILL from the kernel when the bundle dies; the shell in between closes the gap
in which the bundle may already be dead, by comparing its parent (setpriv(1), prctl(2) PR_SET_PDEATHSIG).
It leads a process group, so that what it has just forked ends with it before it could tie itself.
Its folder may be its own, so nothing here follows a link that it may have left there, or waits for a pipe.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_LOG = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_LAST_BYTES = 4096
_STILL_OURS = '[ "$PPID" = "$0" ] && exec "$@"'


def tied(argv: list[str]) -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _STILL_OURS, str(os.getpid()), *argv]


class Child:
    """One running program. Raises OSError where it cannot be run."""

    def __init__(self, argv: list[str], log: str) -> None:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, _LOG, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = tied(argv)
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        self.pid = os.posix_spawnp(command[0], command, environment, file_actions=actions, setpgroup=0)
        self._pidfd = os.pidfd_open(self.pid)
        self.status: int | None = None
        self._forget: Callable[[], object] = lambda: None

    def on_exit(self, call: Callable[[], None]) -> None:
        """Calls once, from the running loop, when the program has ended."""
        import asyncio  # not above: Envoy is started while this is still being loaded

        loop = asyncio.get_running_loop()

        def ended() -> None:
            self._forget()
            self._reap()
            call()

        loop.add_reader(self._pidfd, ended)
        self._forget = lambda: loop.remove_reader(self._pidfd)

    def kill(self) -> None:
        """Ends it at once; fine if it has ended."""
        if self.status is None:
            self._forget()
            self._reap()

    def _reap(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        os.close(self._pidfd)


def write_for_envoy(path: str, content: Mapping[str, Any] | str, uid: int | None) -> None:
    """Replaces a file that Envoy reads; it sees the old one or the new one. `uid` is whom it runs as."""
    text = content if isinstance(content, str) else json.dumps(content)
    temporary = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
        if uid is not None:
            os.fchown(file.fileno(), uid, uid)
    os.rename(temporary, path)


def last_words(log: str) -> str:
    """The last line that a program wrote there: hostile text, and cut."""
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return f"its log cannot be read: {error.strerror}"
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return "its log is no file"
        words = os.pread(descriptor, _LAST_BYTES, max(0, found.st_size - _LAST_BYTES))
    finally:
        os.close(descriptor)
    lines = words.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
