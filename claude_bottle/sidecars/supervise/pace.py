"""How often an agent may call. Pure.

Invariant: over any time no more pass than a burst and the steady rate for as long.
"""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """A bucket of `burst` that fills with `rate` a second."""

    rate: float = 1.0
    burst: float = 30.0
    left: float = 30.0
    at: float = 0.0

    def another(self, now: float) -> tuple[Pace, bool]:
        """The pace after one more call, and whether that may pass."""
        filled = min(self.burst, self.left + max(0.0, now - self.at) * self.rate)
        passes = filled >= 1.0
        return self._replace(left=filled - passes, at=max(now, self.at)), passes
