"""The tour: the real Claude Code binary in a real bottle, on a small repository with a failing test.

It mends the test and then tries what a hijacked agent would try. The model's side is scripted and runs on
this host, so no account is needed; --live uses your own. Everything it makes is removed afterwards.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from claude_bottle.cli.screen import Screen

if TYPE_CHECKING:
    from claude_bottle.operations.demo import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--live", action="store_true", help="with your own account and the real model")
    parser.add_argument("--backend", metavar="B", help="the backend; the first that works here by default")
    parser.add_argument(
        "--script", metavar="FILE", type=Path, help="let the model follow this script (YAML or JSON)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before starting")


def run(options: argparse.Namespace, screen: Screen) -> int:
    import time

    from claude_bottle.cli.launching import launch_agreed
    from claude_bottle.errors import UsageError
    from claude_bottle.operations.choices import Options
    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.demo import play, require_success, set_stage
    from claude_bottle.operations.launch import dispose

    if options.live and options.script:
        raise UsageError("--script is for the scripted model, --live for the real one")
    began = time.monotonic()
    with set_stage(system_context(), live=options.live, script_file=options.script) as stage:
        screen.heading("The plan")
        launched = launch_agreed(stage.context, screen, Options("tourist", options.backend), yes=options.yes)
        if launched is None:
            return 0
        try:
            screen.heading("Proved from inside, before anybody uses it")
            for check in launched.proof:
                screen.verdict(check.ok, f"{check.name}: {check.detail}")
            ready = time.monotonic()
            outcome = play(stage, launched, screen.say)
            ended = time.monotonic()
        finally:
            dispose(launched)
    _report(screen, outcome)
    screen.heading("Times")
    screen.pair("ready", f"{ready - began:.1f} s after the start, everything included")
    screen.pair("work", f"{ended - ready:.1f} s")
    require_success(outcome)
    screen.say("The work came back, the key stayed outside, and nothing else got out.")
    return 0


def _report(screen: Screen, outcome: Outcome) -> None:
    attempts = {attempt.command: attempt for attempt in outcome.attempts}
    screen.heading("What the agent did")
    for call in outcome.calls:
        if call.text not in attempts:
            screen.pair("", f"{call.text}", 2)
            screen.pair("", _first_line(call.result), 6)
    if attempts:
        screen.heading("What it tried, and what stopped it")
    for call in outcome.calls:
        attempt = attempts.get(call.text)
        if attempt is not None:
            screen.pair(attempt.title, "", 2)
            screen.pair("  tried", call.text)
            screen.pair("  got", _telling_line(call.result))
            screen.pair("  stopped", attempt.stopped_by)
    _decisions(screen, outcome)
    screen.heading("What came back")
    for ref, commit in outcome.work.refs:
        screen.pair("", f"{commit[:10]} {ref}", 2)
    for line in outcome.diff.decode(errors="replace").splitlines()[:60]:
        screen.pair("", line, 2)
    screen.heading("Claude's last words")
    screen.pair("", outcome.answer.text, 2)


def _decisions(screen: Screen, outcome: Outcome) -> None:
    from claude_bottle.operations.decisions import describe

    screen.heading("The decision log")
    lines = [describe(event) for event in outcome.decisions if event.get("verdict")]
    counted: dict[str, int] = {}
    for line in lines:
        without_time = line.partition(" ")[2]
        counted[without_time] = counted.get(without_time, 0) + 1
    for line, count in counted.items():
        screen.pair("", line if count == 1 else f"{line}  ({count} times)", 2)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "(nothing)")


def _telling_line(text: str) -> str:
    """The last line that is not Claude Code's own note of the exit status."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Exit code")]
    return lines[-1] if lines else "(nothing)"
