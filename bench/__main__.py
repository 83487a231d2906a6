"""Measures what is named, all without a name, each beside a baseline in turn. It never judges a figure.

Invariant: whatever ends it, nothing that it started is left running and nothing that it wrote on disk.
Exit 0: all was measured. 1: something could not be; standard error says why. 2: there is no such benchmark.
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import ExitStack
from importlib import import_module
from types import FrameType
from typing import NoReturn

from bench.children import UnmeasuredError
from bench.figures import UnknownNameError, as_json, as_row, head_row, select
from bench.lab import Lab
from claude_bottle.errors import BottleError

BENCHMARKS = {
    "start.bubblewrap": "bottles:start",
    "start.docker": "containers:start",
    "attach.bubblewrap": "attaching:bubblewrap",
    "attach.docker": "attaching:docker",
    "exec.bubblewrap": "bottles:execute",
    "exec.docker": "containers:execute",
    "exec.bubblewrap.framing": "bottles:framing",
    "gate.bulk": "traffic:bulk",
    "gate.bulk.raw": "traffic:bulk_raw",
    "gate.keepalive": "traffic:keepalive",
    "gate.keepalive.raw": "traffic:keepalive_raw",
    "gate.connect": "traffic:connect",
    "gate.connect.raw": "traffic:connect_raw",
    "intercept.keepalive": "traffic:intercept_keepalive",
    "intercept.sse_delay": "traffic:sse_delay",
    "policy.change": "changing:change",
    "list.empty": "commands:list_empty",
    "list.one": "commands:list_one",
    "list.active.bubblewrap": "listing:bubblewrap",
    "list.active.docker": "listing:docker",
    "stop.docker": "containers:stop",
    "audit.append": "decisions:append",
    "approve.effect": "decisions:effect",
    "dashboard.paint": "dashboard:paint",
    "dashboard.refresh": "dashboard:refresh",
    "dashboard.idle": "dashboard:idle",
    "dashboard.key": "dashboard:key",
    "memory.idle": "bottles:idle",
    "memory.idle.docker": "containers:idle",
    "import.cli": "commands:import_cli",
    "e2e.run": "commands:run",
}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndedError(BaseException):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=__doc__,
        epilog="\n".join(["benchmarks:", *(f"  {name}" for name in BENCHMARKS)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a name, the start of some, or a pattern")
    options = parser.parse_args()
    try:
        chosen = select(options.names or ["*"], tuple(BENCHMARKS))
    except UnknownNameError as error:
        hint = f"did you mean {error.nearest}?" if error.nearest else "--help lists them"
        sys.stderr.write(f"script/bench: there is no benchmark {error.name!r}\n  {hint}\n")
        return 2
    for number in _ENDING:
        signal.signal(number, _raise_ended)
    try:
        return measure(chosen, as_lines=options.json)
    except EndedError as ended:
        return ended.status


def measure(chosen: list[str], *, as_lines: bool) -> int:
    status = 0
    if not as_lines:
        say(head_row())
    with ExitStack() as stack:
        lab = Lab(stack)
        for name in chosen:
            module, _, function = BENCHMARKS[name].partition(":")
            try:
                for figure in getattr(import_module(f"bench.{module}"), function)(lab):
                    say(as_json(figure) if as_lines else as_row(figure))
            except (UnmeasuredError, BottleError, OSError) as error:
                sys.stderr.write(f"script/bench: {name} could not be measured: {error}\n")
                status = 1
    return status


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _raise_ended(number: int, _: FrameType | None) -> NoReturn:
    for each in _ENDING:  # what follows is tidying up, which has its own limits of time
        signal.signal(each, signal.SIG_IGN)
    raise EndedError(number)


if __name__ == "__main__":
    sys.exit(main())
