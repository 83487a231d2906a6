"""The file in which a bottle's proposals outlive it.

Invariant: a reader sees a whole queue or an error; only a file that is not there is an empty one. In a
container Envoy could write there too, so it is read as an agent's: bounded, through no link, and taken only
if all of it is what it should be.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress

from claude_bottle.errors import BottleError
from claude_bottle.policy.proposals import Queue
from claude_bottle.policy.proposals_json import queue_from_json, queue_to_json
from claude_bottle.policy.snapshot import PolicyFormatError

_MAX_BYTES = 16 << 20


def read_queue(path: str) -> Queue:
    """Empty where nobody has asked for anything. Raises BottleError for what cannot be read as proposals."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
                raise PolicyFormatError("no plain file of at most 16 MiB")
            with open(descriptor, "rb", closefd=False) as file:
                return queue_from_json(json.loads(file.read(_MAX_BYTES)))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return Queue()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except PolicyFormatError as error:
        raise _unreadable(path, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, "no list of proposals") from error


def _unreadable(path: str, why: str) -> BottleError:
    return BottleError(f"the proposals in {path} cannot be read: {why}")


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
