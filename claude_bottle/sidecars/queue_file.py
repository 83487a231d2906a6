"""The file in which a bottle's proposals outlive it.

Invariant: a reader sees a whole queue or none. In a container Envoy could write there too, so it is read as
an agent's: bounded, through no link, and taken only if all of it is what it should be.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress

from claude_bottle.policy.proposals import Queue
from claude_bottle.policy.proposals_json import queue_from_json, queue_to_json
from claude_bottle.policy.snapshot import PolicyFormatError

_MAX_BYTES = 16 << 20


def read_queue(path: str) -> Queue:
    """What an earlier run of the bottle has left; empty where that is nothing, or of no use."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
                return Queue()
            return queue_from_json(json.loads(file.read(_MAX_BYTES)))
    except (OSError, ValueError, RecursionError, PolicyFormatError):
        return Queue()


def write_queue(path: str, queue: Queue) -> None:
    """Whole or not at all. Raises OSError."""
    temporary = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with open(descriptor, "wb") as file:
        file.write(json.dumps(queue_to_json(queue)).encode())
    os.rename(temporary, path)
