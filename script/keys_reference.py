"""The keys in docs/dashboard.md, made from what the dashboard's own help shows.

Invariant: what stands between the two marks depends on `dashboard.keys` alone; the rest of the page is kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

from claude_bottle.dashboard.keys import sections

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dashboard.md"
BEGIN = "<!-- made by script/docs from claude_bottle/dashboard/keys.py -->"
END = "<!-- end of the keys -->"


def page(current: str) -> str:
    """Raises ValueError where there are no two marks to put the keys between."""
    before, begin, rest = current.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("docs/dashboard.md has lost the marks around the keys")
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def table() -> str:
    lines = ["| where | key | what it does |", "|---|---|---|"]
    for heading, rows in sections():
        lines += [f"| {heading} | {ticked(keys)} | {told} |" for keys, told in rows]
    return "\n".join(lines) + "\n"


def ticked(keys: str) -> str:
    return " ".join(f"`{key}`" for key in keys.split())


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: script/docs [--check]\n")
        return 2
    current = PAGE.read_text(encoding="utf-8")
    made = page(current)
    if not arguments:
        PAGE.write_text(made, encoding="utf-8")
    elif made != current:
        sys.stderr.write("docs/dashboard.md is not what the keys are: run script/docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
