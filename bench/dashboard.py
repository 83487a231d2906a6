"""The dashboard with 200 agents and 100 proposals: its first paint, a refresh, standing still, a key.

The first and the last are measured on a real terminal, by the clock; the others are CPU, whatever else the
machine is about.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator

from bench.children import PYTHON, ROOT, UnmeasuredError, on_terminal, whole_process
from bench.desk import LAST
from bench.figures import Figure, compared, in_turn, part
from bench.lab import Lab

_PATIENCE = 30.0
# With the threshold that the installed command sets: loading modules makes no garbage.
_SHOW = [PYTHON, "-c", "import gc; gc.set_threshold(50_000); from bench.desk import show; show()"]
_FIRST = (b"docs0.example.org", b"a0003")  # both panes
_KEYS = 20


def paint(_: Lab) -> Iterator[Figure]:
    """From the process's start to the first paint of all rows, against the import of Textual alone."""
    bare = [PYTHON, "-c", "import textual.app"]
    yield compared(
        "dashboard.paint", "ms", in_turn(_painted, lambda: whole_process(bare) * 1000, rounds=10, seconds=20)
    )


def key(_: Lab) -> Iterator[Figure]:
    """From a key (`G`, and `g` again) to the screen that shows what it did."""
    with on_terminal(_SHOW, _environment(), ROOT) as screen:
        _until(screen, _FIRST)
        _quiet(screen)
        found = []
        for _at in range(_KEYS):
            found += [_keyed(screen, b"G", LAST.encode()), _keyed(screen, b"g", b"a0003")]
        yield part("dashboard.key", "ms", found)


def refresh(_: Lab) -> Iterator[Figure]:
    """CPU from news, of which ten rows are other than before, to a drawn screen."""
    yield part("dashboard.refresh", "ms", _said("refresh"))


def idle(_: Lab) -> Iterator[Figure]:
    """CPU while nothing changes and everything is looked at each second, in percent of a core."""
    yield part("dashboard.idle", "%", [*_said("idle"), *_said("idle")])


def _painted() -> float:
    began = time.perf_counter()
    with on_terminal(_SHOW, _environment(), ROOT) as screen:
        _until(screen, _FIRST)
        return (time.perf_counter() - began) * 1000


def _keyed(screen: int, typed: bytes, shows: bytes) -> float:
    began = time.perf_counter()
    os.write(screen, typed)
    _until(screen, (shows,))
    took = (time.perf_counter() - began) * 1000
    _quiet(screen)
    return took


def _until(screen: int, shows: tuple[bytes, ...]) -> None:
    """Raises UnmeasuredError."""
    seen, deadline = b"", time.monotonic() + _PATIENCE
    while not all(each in seen for each in shows):
        if not select.select([screen], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise UnmeasuredError(f"{shows} was not seen on the screen: {seen[-200:]!r}")
        try:
            seen += os.read(screen, 1 << 16)
        except OSError as error:
            raise UnmeasuredError(f"the dashboard has ended: {seen[-200:]!r}") from error


def _quiet(screen: int) -> None:
    """Once nothing was drawn for a moment."""
    while select.select([screen], [], [], 0.15)[0]:
        os.read(screen, 1 << 16)


def _said(what: str) -> list[float]:
    argv = [PYTHON, "-m", "bench.desk", what]
    done = subprocess.run(argv, capture_output=True, cwd=ROOT, env=_environment(), timeout=120, check=False)
    if done.returncode:
        raise UnmeasuredError(done.stderr.decode(errors="replace")[-300:])
    found: list[float] = json.loads(done.stdout)
    return found


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return {**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
