"""Makes sure that a bottle ends when its keeper does, whatever an agent did to the bottle's first process.

Theory. bubblewrap's first process asks the kernel to be killed with its parent. It is of the bottle's own
user, though, so an agent can trace it and make it take that back: prctl(2), PR_SET_PDEATHSIG. When the
first process of a process namespace is killed, the kernel kills all the others; so it is killed by name,
from outside, where no agent can reach: by the keeper, or by the guard if the keeper was killed itself.

Invariant: the guard holds a pidfd and the reading end of a pipe, and nothing else of the keeper's.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from typing import NoReturn

from claude_bottle.backend import linux
from claude_bottle.backend.bubblewrap import entry

_SECONDS = 5.0


def post_guard(init: int) -> int:
    """Starts the guard of the process that this pidfd names; returns the guard's own pidfd.

    The writing end of the pipe stays open for as long as this process lives, and says so.
    """
    reading, _ = os.pipe()
    guard = os.fork()
    if guard == 0:
        _stand(reading, init)
    os.close(reading)
    return os.pidfd_open(guard)


def _stand(reading: int, init: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        os.dup2(reading, 0)
        os.dup2(init, 1)
        linux.close_from(2)
        os.read(0, 1)
        signal.pidfd_send_signal(1, signal.SIGKILL)
    finally:
        os._exit(0)


def kill_and_wait(pidfd: int) -> None:
    """Kills a process and waits until it is gone; if it is a first process, so is its namespace then."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_SECONDS * 1000)


def end_remains(run: str) -> None:
    """Kills what is left of a bottle whose keeper and guard were both killed. Only where nobody keeps it."""
    if entry.lock_holder(run):
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
