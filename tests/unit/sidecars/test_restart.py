"""When a sidecar that ended is started again: every time is made up."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from claude_bottle.sidecars.restart import PACE, Attempt, Bound, Deaths, Pace, reason_of

QUICK = Pace(first=1.0, longest=8.0, calm=60.0, bounds=(Bound(100, 60.0),))


def attempts(times: Iterable[float], pace: Pace) -> list[Attempt | None]:
    """What follows each of these deaths."""
    deaths, found = Deaths(), []
    for now in times:
        deaths, attempt = deaths.another(now, pace)
        found.append(attempt)
    return found


def pauses(times: Iterable[float], pace: Pace = QUICK) -> list[float | None]:
    return [attempt and attempt.pause for attempt in attempts(times, pace)]


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    assert pauses(range(6)) == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_attempts_are_counted() -> None:
    assert [attempt.number for attempt in attempts(range(4), QUICK) if attempt] == [1, 2, 3, 4]


def test_after_a_calm_time_it_begins_again() -> None:
    assert pauses([0.0, 1.0, 61.0, 62.0]) == [1.0, 2.0, 1.0, 2.0]
    assert pauses([0.0, 1.0, 60.9]) == [1.0, 2.0, 2.0], "the second death still counts"


def test_too_many_within_a_window_is_the_end() -> None:
    pace = QUICK._replace(bounds=(Bound(3, 10.0),))
    assert pauses([0.0, 1.0, 2.0, 3.0], pace)[-1] is None
    assert pauses([0.0, 1.0, 2.0, 9.9], pace)[-1] is None
    assert pauses([0.0, 1.0, 2.0, 10.0], pace)[-1] is not None, "the first is out of the window"


def test_too_many_in_all_is_the_end_however_slowly() -> None:
    pace = QUICK._replace(bounds=(Bound(3, 10.0), Bound(5, 1000.0)))
    times = [100.0 * number for number in range(6)]
    assert pauses(times, pace) == [1.0] * 5 + [None]


def test_what_is_out_of_every_window_is_forgotten() -> None:
    deaths = Deaths()
    for number in range(1000):
        deaths, attempt = deaths.another(number * PACE.bounds[-1].seconds / 10, PACE)
        assert attempt is not None
    assert len(deaths.times) <= 10


def test_the_pace_of_a_bottle() -> None:
    """Five starts in a minute, none of them at once, then no more."""
    assert pauses([0.0] * 6, PACE) == [0.1, 0.2, 0.4, 0.8, 1.6, None]
    assert max(pause or 0.0 for pause in pauses(range(100), PACE)) <= PACE.longest


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0, "it ended by itself"),
        (1, "it ended with status 1"),
        (-9, "killed by SIGKILL"),
        (137, "killed by SIGKILL"),
        (139, "killed by SIGSEGV"),
        (255, "it ended with status 255"),
    ],
)
def test_a_status_in_words(status: int, reason: str) -> None:
    assert reason_of(status) == reason
