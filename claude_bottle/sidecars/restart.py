"""When a sidecar that has ended is started again, and when no more. Pure: the clock is the caller's.

Invariant: between two starts there is a pause, longer each time, and the starts are bounded in every window
of time. A program that an agent can make crash is a lock that it may try again after each start; so the bound
is not only on how fast it crashes but on how often in all.
"""

from __future__ import annotations

from typing import NamedTuple

_SIGNAL = 128  # a shell, and bubblewrap, add this to the number of the signal


class Bound(NamedTuple):
    """At most so many deaths within so many seconds."""

    deaths: int
    seconds: float


class Pace(NamedTuple):
    """Pauses, and when to give up."""

    first: float = 0.1  # seconds before the first start
    longest: float = 5.0
    calm: float = 60.0  # what has been up for so long begins with the first pause again
    bounds: tuple[Bound, ...] = (Bound(5, 60.0), Bound(20, 3600.0))


PACE = Pace()


class Attempt(NamedTuple):
    """The start that follows a death: its number since the last calm, and the pause before it."""

    number: int
    pause: float


class Deaths(NamedTuple):
    """Those that may still count, oldest first."""

    times: tuple[float, ...] = ()

    def another(self, now: float, pace: Pace = PACE) -> tuple[Deaths, Attempt | None]:
        """With one more, and the attempt that follows it; None: no more."""
        longest = max(bound.seconds for bound in pace.bounds)
        times = (*(then for then in self.times if now - then < longest), now)
        for bound in pace.bounds:
            if sum(now - then < bound.seconds for then in times) > bound.deaths:
                return Deaths(times), None
        number = sum(now - then < pace.calm for then in times)
        return Deaths(times), Attempt(number, min(pace.longest, pace.first * 2 ** (number - 1)))


def reason_of(status: int) -> str:
    """How a program ended, in words, by its status as subprocess gives it or as a shell passes it on."""
    import signal

    if status == 0:
        return "it ended by itself"
    try:
        return f"killed by {signal.Signals(-status if status < 0 else status - _SIGNAL).name}"
    except ValueError:
        return f"it ended with status {status}"
