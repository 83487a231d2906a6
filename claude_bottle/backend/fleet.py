"""Asks all backends at once what runs, so that a broken or slow one costs a warning row and no more."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from claude_bottle.backend.base import ActiveAgent, BottleBackend
from claude_bottle.errors import BottleError

Loader = Callable[[str], BottleBackend]


def enumerate_all(loaders: Mapping[str, Loader], state: Path, timeout: float) -> list[ActiveAgent]:
    """Never raises. A thread that does not answer in time is left behind; it is a daemon."""
    answers: queue.Queue[tuple[str, list[ActiveAgent]]] = queue.Queue()
    for name, loader in loaders.items():
        threading.Thread(target=_ask, args=(name, loader, state, answers), daemon=True).start()
    deadline = time.monotonic() + timeout
    rows: list[ActiveAgent] = []
    waiting = set(loaders)
    while waiting:
        try:
            name, found = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            rows += [_warning(name, f"no answer within {timeout:g} s") for name in sorted(waiting)]
            break
        waiting.discard(name)
        rows += found
    return sorted(rows, key=lambda row: (row.started_at, row.slug))


def _ask(name: str, loader: Loader, state: Path, answers: queue.Queue[tuple[str, list[ActiveAgent]]]) -> None:
    try:
        found = loader(name).active(state)
    except BottleError as error:
        found = [_warning(name, error.message)]
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one backend must not hide the others
        found = [_warning(name, f"{type(error).__name__}: {error}")]
    answers.put((name, found))


def _warning(name: str, reason: str) -> ActiveAgent:
    return ActiveAgent(name, "-", "-", 0.0, (), warning=reason)
