"""What a measurement is, how the benchmarks are chosen by name, and how a figure is shown. Pure.

Invariant: a figure never judges. It is the median of several runs beside the median of its baseline, which
was measured in turn with it, and the median of their ratios pair by pair: slow moments hit both alike.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from statistics import median

LEAST = 3  # pairs, however long they take
HEAD = ("bench", "value", "baseline", "ratio", "unit", "min", "max", "runs")
_WIDTHS = (34, 10, 10, 8, 6, 10, 10, 5)

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of output. `baseline` and `ratio` are None where there is nothing to compare with."""

    bench: str
    value: float
    unit: str
    baseline: float | None
    ratio: float | None
    runs: int
    min: float
    max: float


class UnknownNameError(ValueError):
    """No benchmark has this name."""

    def __init__(self, name: str, nearest: str | None) -> None:
        super().__init__(name)
        self.name = name
        self.nearest = nearest


def compared(bench: str, unit: str, pairs: Sequence[Pair]) -> Figure:
    """From pairs of (value, baseline). A baseline of nothing has no ratio."""
    values = [value for value, _ in pairs]
    baselines = [base for _, base in pairs]
    ratio = median(value / base for value, base in pairs) if all(baselines) else None
    ends = (min(values), max(values))
    return Figure(bench, median(values), unit, median(baselines), ratio, len(values), *ends)


def part(bench: str, unit: str, values: Sequence[float]) -> Figure:
    """Something that has no baseline, such as one step of a start."""
    return Figure(bench, median(values), unit, None, None, len(values), min(values), max(values))


def in_turn(
    thing: Callable[[], float],
    baseline: Callable[[], float],
    *,
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[Pair]:
    """Measures thing, baseline, thing, baseline ... after one round that only warms up.

    Ends after `rounds`, or when `seconds` are over and there are enough.
    """
    thing(), baseline()
    deadline = clock() + seconds
    pairs: list[Pair] = []
    while len(pairs) < rounds and (len(pairs) < LEAST or clock() < deadline):
        pairs.append((thing(), baseline()))
    return pairs


def select(wanted: Iterable[str], known: Sequence[str]) -> list[str]:
    """The benchmarks that are meant, each once, in their own order.

    A name is a whole one, the beginning of some up to a dot, or a pattern with `*`. Raises UnknownNameError.
    """
    chosen: set[str] = set()
    for name in wanted:
        found = [name] if name in known else [item for item in known if _meant(name, item)]
        if not found:
            close = difflib.get_close_matches(name, [*known, *_beginnings(known)], n=1, cutoff=0.4)
            raise UnknownNameError(name, close[0] if close else None)
        chosen.update(found)
    return [item for item in known if item in chosen]


def _meant(name: str, item: str) -> bool:
    return item.startswith(f"{name}.") or fnmatchcase(item, name)


def _beginnings(known: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in known}


def as_json(figure: Figure) -> str:
    rounded = {
        key: _rounded(value) if isinstance(value, float) else value for key, value in asdict(figure).items()
    }
    return json.dumps(rounded)


def _rounded(value: float) -> float:
    """Four figures that mean something; more would be noise."""
    return float(f"{value:.4g}")


def as_row(figure: Figure) -> str:
    numbers = (figure.value, figure.baseline, figure.ratio)
    ends = (figure.min, figure.max)
    return _aligned([figure.bench, *map(_shown, numbers), figure.unit, *map(_shown, ends), str(figure.runs)])


def head_row() -> str:
    return _aligned(HEAD)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{_rounded(value):g}"


def _aligned(cells: Sequence[str]) -> str:
    first, *others = zip(cells, _WIDTHS, strict=True)
    return " ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])
