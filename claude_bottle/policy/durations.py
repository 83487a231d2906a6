"""How long and how often something holds, as an operator writes and reads it. Pure."""

from __future__ import annotations

import re

LONGEST = 366 * 86400
MOST_USES = 1_000_000
_FORM = re.compile(r"([1-9][0-9]{0,7})([smhd])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_duration(text: str) -> float:
    """Raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("a duration is a whole number with s, m, h or d, such as 30m")
    seconds = int(found[1]) * _SECONDS[found[2]]
    if seconds > LONGEST:
        raise ValueError("a duration is at most 366d")
    return float(seconds)


def parse_uses(text: str) -> int:
    """Raises ValueError."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= MOST_USES:
        raise ValueError(f"a whole number from 1 to {MOST_USES}")
    return int(text)


def spoken(seconds: float) -> str:
    """In its largest unit and the next: 1h20m. Rounded down, so that nobody counts on more."""
    left, units = max(0, int(seconds)), [*_SECONDS.items()]
    at = next(at for at, (_, size) in enumerate(units) if left >= size or size == 1)
    words: list[str] = []
    for unit, size in units[at : at + 2]:
        count, left = divmod(left, size)
        words.append(f"{count}{unit}" if count or not words else "")
    return "".join(words)
