"""What on this host bears one of a test's own names: processes, control groups, and what an engine holds.

Invariant: a name is one that no other test uses, so that what is found belongs to whoever asks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path


def traces(pid: int) -> Iterator[str]:
    """Where a process shows what it works on: its command line, folder, files and mounts."""
    with suppress(OSError):
        yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        yield os.readlink(f"/proc/{pid}/cwd")
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{name}")
        # An engine shows a volume to all of this host for a moment, while it puts files into it.
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            yield Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")


def processes_of(needles: Collection[str]) -> Iterator[tuple[int, str]]:
    """But ourselves; each with its command line."""
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid != os.getpid() and any(needle in text for text in traces(pid) for needle in needles):
            yield pid, next(traces(pid), "")


def groups_of(prefix: str) -> list[str]:
    """Control groups whose names begin so."""
    return [
        os.path.join(folder, name)
        for folder, folders, _ in os.walk("/sys/fs/cgroup")
        for name in folders
        if name.startswith(prefix)
    ]


def engine_says(*question: str, name: str) -> list[str]:
    """Its answer's words, about what has this in its name."""
    argv = ["docker", *question, "--filter", f"name={name}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
