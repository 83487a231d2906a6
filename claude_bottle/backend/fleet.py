"""Asks all backends at once what runs, so that a broken or slow one costs a warning row and no more.

A thread that does not answer in time is left behind; it is a daemon.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import ActiveAgent, BottleBackend, Look
from claude_bottle.errors import BottleError

Loader = Callable[[str], BottleBackend]


def enumerate_all(loaders: Mapping[str, Loader], state: Path, timeout: float) -> list[ActiveAgent]:
    """Never raises."""
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
            rows += [warning_row(name, f"no answer within {timeout:g} s") for name in sorted(waiting)]
            break
        waiting.discard(name)
        rows += found
    return sorted(rows, key=lambda row: (row.started_at, row.slug))


def _ask(name: str, loader: Loader, state: Path, answers: queue.Queue[tuple[str, list[ActiveAgent]]]) -> None:
    try:
        found = loader(name).active(state)
    except BottleError as error:
        found = [warning_row(name, error.message)]
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one backend must not hide the others
        found = [warning_row(name, f"{type(error).__name__}: {error}")]
    answers.put((name, found))


def warning_row(name: str, reason: str) -> ActiveAgent:
    return ActiveAgent(name, "-", "-", 0.0, (), warning=reason)


def look_at_all(
    loaders: Mapping[str, Loader], slugs: Mapping[str, Sequence[str]], state: Path, timeout: float
) -> tuple[dict[str, Look], list[str]]:
    """Never raises. What was seen in time, by slug, and a line for each backend that could not look."""
    answers: queue.Queue[_Glimpse | _End] = queue.Queue()
    for name, wanted in slugs.items():
        arguments = (name, loaders[name], wanted, state, answers)
        threading.Thread(target=_look, args=arguments, daemon=True).start()
    deadline = time.monotonic() + timeout
    seen: dict[str, Look] = {}
    faults: list[str] = []
    waiting = set(slugs)
    while waiting:
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            faults += [f"{name}: not all was seen within {timeout:g} s" for name in sorted(waiting)]
            break
        if isinstance(answer, _Glimpse):
            seen[answer.slug] = answer.look
            continue
        waiting.discard(answer.backend)
        faults += [f"{answer.backend}: {answer.fault}"] if answer.fault else []
    return seen, faults


class _Glimpse(NamedTuple):
    slug: str
    look: Look


class _End(NamedTuple):
    backend: str
    fault: str = ""


def _look(
    name: str, loader: Loader, slugs: Sequence[str], state: Path, answers: queue.Queue[_Glimpse | _End]
) -> None:
    fault = ""
    try:
        for slug, found in loader(name).look(slugs, state):
            answers.put(_Glimpse(slug, found))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one backend must not hide the others
        fault = f"{type(error).__name__}: {error}"
    answers.put(_End(name, fault))
