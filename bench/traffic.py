"""What the gate and the interception cost, against the same client talking to the same server directly.

The plain names speak TLS from end to end, as an agent does; `.raw` sends a real TLS hello and goes on in the
clear, so that nothing but the way itself is measured. One connection at a time: the figures are about delay.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.figures import Figure, compared, in_turn
from bench.lab import Lab
from bench.rig import Rig, Ways

_BULK_BYTES = 100_000_000
_SECONDS = 0.3  # of each run
_EVENTS = 40


def bulk(lab: Lab) -> Iterator[Figure]:
    """100 MB through an opaque tunnel, with TLS."""
    yield _rates(lab.rig, "gate.bulk", "MB/s", lab.rig.tunnel, do="bulk", bytes=_BULK_BYTES)


def bulk_raw(lab: Lab) -> Iterator[Figure]:
    """100 MB through an opaque tunnel, without TLS after the hello."""
    yield _rates(lab.rig, "gate.bulk.raw", "MB/s", lab.rig.raw, do="bulk", bytes=_BULK_BYTES)


def keepalive(lab: Lab) -> Iterator[Figure]:
    """1 KB there and back on one tunnel, with TLS."""
    yield _rates(lab.rig, "gate.keepalive", "1/s", lab.rig.tunnel, do="keepalive", seconds=_SECONDS)


def keepalive_raw(lab: Lab) -> Iterator[Figure]:
    """1 KB there and back on one tunnel, without TLS after the hello."""
    yield _rates(lab.rig, "gate.keepalive.raw", "1/s", lab.rig.raw, do="keepalive", seconds=_SECONDS)


def connect(lab: Lab) -> Iterator[Figure]:
    """New connections: CONNECT, TLS handshake, 1 KB there and back, the end."""
    yield _rates(lab.rig, "gate.connect", "1/s", lab.rig.tunnel, do="connect", seconds=_SECONDS)


def connect_raw(lab: Lab) -> Iterator[Figure]:
    """New connections: CONNECT, a TLS hello, 1 KB there and back, the end."""
    yield _rates(lab.rig, "gate.connect.raw", "1/s", lab.rig.raw, do="connect", seconds=_SECONDS)


def intercept_keepalive(lab: Lab) -> Iterator[Figure]:
    """1 KB there and back through gate, Envoy, authorization and dialler, TLS on both sides of Envoy."""
    yield _rates(lab.rig, "intercept.keepalive", "1/s", lab.rig.inspected, do="keepalive", seconds=_SECONDS)


def sse_delay(lab: Lab) -> Iterator[Figure]:
    """How much later an event arrives through the interception (value) than it does directly (baseline)."""
    rig = lab.rig

    def delay(way: dict[str, object]) -> float:
        return float(median(rig.client.ask(do="events", way=way, events=_EVENTS)["values"]))

    pairs = in_turn(
        lambda: delay(rig.inspected.through), lambda: delay(rig.inspected.direct), rounds=12, seconds=10
    )
    yield compared("intercept.sse_delay", "ms", [(through - direct, direct) for through, direct in pairs])


def _rates(rig: Rig, bench: str, unit: str, ways: Ways, **load: object) -> Figure:
    def rate(way: dict[str, object]) -> float:
        return float(rig.client.ask(way=way, **load)["value"])

    pairs = in_turn(lambda: rate(ways.through), lambda: rate(ways.direct), rounds=12, seconds=8)
    return compared(bench, unit, pairs)
