"""What an operator reads at length, as lines for a viewer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.text import Text

from claude_bottle.dashboard.paint import plain
from claude_bottle.dashboard.source import Brief
from claude_bottle.dashboard.world import Launch

_LIMIT = 2000  # characters of a line
_SIGNS = (("+++", "bold"), ("---", "bold"), ("@@", "cyan"), ("diff ", "bold"), ("+", "green"), ("-", "red"))


def of_diff(text: str, slug: str) -> Iterator[Text]:
    """The sign stands in front of each line; the colour only repeats it."""
    for line in (text or f"{slug} has changed nothing yet").splitlines():
        style = next((style for sign, style in _SIGNS if line.startswith(sign)), "")
        yield plain(line.replace("\t", "    "), style, limit=_LIMIT)


def of_log(lines: Iterable[str]) -> Iterator[Text]:
    for line in lines:
        yield plain(line.replace("\t", "    "), "bold" if line.startswith("=== ") else "", limit=_LIMIT)


def of_brief(found: Brief) -> Iterator[Text]:
    for problem in found.problems:
        yield plain(problem, "bold", limit=_LIMIT)
    for label, text in found.lines:
        yield plain(f"{label:<12} {text}", limit=_LIMIT)


def of_launch(launch: Launch) -> Iterator[Text]:
    for step in launch.steps:
        yield plain(step, limit=_LIMIT)
    if launch.failure:
        yield plain(f"failed: {launch.failure}", "bold", limit=_LIMIT)
