"""Which row is selected, by identity: rows come, go and move, and the cursor stays with its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def kept(before: Sequence[str], after: Sequence[str], selected: str | None) -> str | None:
    """The selection among `after`.

    One that has gone gives it to the row that fills its place: the next of those that were below it, else
    the new last one.
    """
    if selected in after:
        return selected
    if not after:
        return None
    if selected is None or selected not in before:
        return after[0]
    there = set(after)
    below = (key for key in before[before.index(selected) + 1 :] if key in there)
    return next(below, after[-1])


def moved(keys: Sequence[str], selected: str | None, step: int) -> str | None:
    """Some rows further, at most to the end."""
    if not keys:
        return None
    at = keys.index(selected) if selected in keys else 0
    return keys[max(0, min(len(keys) - 1, at + step))]
