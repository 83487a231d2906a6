"""`list` with no agent, 10 and 50; beside Python doing nothing and, where there is an engine, its own query.

Their owner ends with the benchmark, and all of them with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.children import whole_process
from bench.commands import bare_python
from bench.figures import Figure, compared, in_turn
from bench.lab import Lab
from bench.operator import Operator, operator

_COUNTS = (0, 10, 50)
_AT_ONCE = 4


def bubblewrap(_: Lab) -> Iterator[Figure]:
    """Against Python doing nothing: there is no engine to ask."""
    yield from _active("bubblewrap", bare_python)


def docker(_: Lab) -> Iterator[Figure]:
    """Against Python doing nothing and `docker ps`, one after the other."""
    yield from _active("docker", lambda: bare_python() + whole_process(["docker", "ps", "--all"]) * 1000)


def _active(backend: str, least: Callable[[], float]) -> Iterator[Figure]:
    with operator(backend) as owner:
        for count in _COUNTS:
            _grow(owner, count)
            yield _measured(f"list.active.{backend}.{count}", owner, least)
        yield _measured(f"list.active.{backend}.{count}.json", owner, least, "--json")


def _measured(bench: str, owner: Operator, least: Callable[[], float], *options: str) -> Figure:
    pairs = in_turn(lambda: owner.seconds_of("list", "active", *options) * 1000, least, rounds=20, seconds=8)
    return compared(bench, "ms", pairs)


def _grow(owner: Operator, count: int) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda _: owner.start(), range(count - len(owner.slugs()))))
