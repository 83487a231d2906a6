"""What a picker shows of its items, and which of them the cursor is on. Pure.

Invariant: the cursor stays on the same item, whatever is typed, as long as that item is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Item(NamedTuple):
    """`refusal` says why it cannot be taken."""

    key: str
    label: str
    note: str = ""
    refusal: str = ""


class Picking(NamedTuple):
    items: tuple[Item, ...]
    shown: tuple[Item, ...]
    at: int = 0

    @property
    def item(self) -> Item | None:
        return self.shown[self.at] if self.shown else None

    def filtered(self, typed: str) -> Picking:
        """What holds `typed` in its label, in any case."""
        wanted = typed.casefold()
        found = tuple(item for item in self.items if wanted in item.label.casefold())
        here = self.item
        return self._replace(shown=found, at=found.index(here) if here in found else 0)

    def moved(self, by: int) -> Picking:
        return self._replace(at=max(0, min(len(self.shown) - 1, self.at + by)))


def picking(items: Sequence[Item]) -> Picking:
    return Picking(tuple(items), tuple(items))
