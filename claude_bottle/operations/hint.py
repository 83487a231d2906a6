"""Whether a bottle has to be asked for its proposals again, without asking it.

Invariant: what stands in its file of proposals is not read. That it has changed is only a hint, and where it
has not, or is not on this host, the bottle is asked anyway after a while.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from claude_bottle.state.paths import BottlePaths
from claude_bottle.state.traces import Trace, trace


class Glimpse(NamedTuple):
    """The file as it was at a moment of the monotonic clock; None where there was none."""

    file: Trace | None
    at: float

    def calls_for_asking(self, asked: Glimpse | None, seconds: float) -> bool:
        """Whether something may have changed since `asked`, which was taken before the last answer."""
        return asked is None or asked.file != self.file or self.at - asked.at >= seconds


def glimpse(paths: BottlePaths) -> Glimpse:
    return Glimpse(trace(str(paths.proposals)), time.monotonic())
