"""Makes sure that a bottle ends when its keeper does, whatever an agent did to the bottle's first process.

Theory. bubblewrap's first process asks the kernel to be killed with its parent. It is of the bottle's own
user, though, so an agent can trace it and make it take that back: prctl(2), PR_SET_PDEATHSIG. When the
first process of a process namespace is killed, the kernel kills all the others; so it is killed by name,
from outside, where no agent can reach: by the keeper, or by the guard if the keeper was killed itself.
Before bubblewrap has set it up there is no such name, and the first process waits for bubblewrap without
having asked for anything; until then it is in bubblewrap's process group, which no agent has touched.

Invariant: the guard is told of a process before that process may go on. It holds its end of a socket to the
keeper and what it was told of, nothing else.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress
from typing import NoReturn

from claude_bottle.backend import linux
from claude_bottle.backend.bubblewrap import entry
from claude_bottle.backend.bubblewrap.lock import lock_holder

_SECONDS = 5.0
_OVER = b"over"


class Guard:
    """The keeper's end of it. The guard acts when this process ends without having called `release`."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        guard = os.fork()
        if guard == 0:
            _stand(theirs)
        theirs.close()
        self.pidfd = os.pidfd_open(guard)

    def watch_group(self, leader: int) -> None:
        """bubblewrap's process group, as long as there is no first process. Raises OSError."""
        self._ours.send(str(leader).encode())

    def watch_first(self, pidfd: int) -> None:
        """The bottle's first process. Raises OSError."""
        socket.send_fds(self._ours, [b"first"], [pidfd])

    def release(self) -> None:
        """All has ended: the guard has nothing more to do."""
        with suppress(OSError):  # it has ended as well
            self._ours.send(_OVER)
        self._ours.close()


def _stand(keeper: socket.socket) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        os.dup2(keeper.fileno(), 0)
        linux.close_from(1)
        _watch(socket.socket(fileno=0))
    finally:
        os._exit(0)


def _watch(keeper: socket.socket) -> None:
    group, first = 0, -1
    while True:
        told, descriptors, _, _ = socket.recv_fds(keeper, 32, 1)
        if told == _OVER:
            return
        if not told:
            break
        if descriptors:
            first = descriptors[0]
        else:
            group = int(told)
    if first >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(first, signal.SIGKILL)
    if group:
        os.killpg(group, signal.SIGKILL)


def kill_and_wait(pidfd: int) -> None:
    """Kills a process and waits until it is gone; if it is a first process, so is its namespace then."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_SECONDS * 1000)


def end_remains(run: str) -> None:
    """Kills what is left of a bottle whose keeper and guard were both killed. Only where nobody keeps it."""
    if lock_holder(run):
        return
    try:
        facts = entry.read_entry(run)
        pidfd = os.pidfd_open(facts.init)
    except (OSError, entry.NotRunning):
        return  # it ended in order, or its first process is gone
    try:
        if entry.start_time(facts.init) == facts.born:
            kill_and_wait(pidfd)
    except FileNotFoundError:
        pass  # it has ended meanwhile
    finally:
        os.close(pidfd)
