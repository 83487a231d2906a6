"""What `start`, `run` and `demo` share: their options, the preflight, the launch, and the end.

What a launch needs is loaded in `launch_agreed`, once that has started what takes its time to come up.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from claude_bottle.operations.choices import Options, choose_backend, warm_up

if TYPE_CHECKING:
    from claude_bottle.cli.screen import Screen
    from claude_bottle.operations.context import Context
    from claude_bottle.operations.launch import Launched
    from claude_bottle.operations.prepare import Prepared
    from claude_bottle.operations.settle import Settled


def add_launch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", metavar="B", help="the backend; the first that works here by default")
    parser.add_argument("--workspace", metavar="W", help="clone, overlay, copy, bind or none")
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="make the workspace from DIR instead of this folder"
    )
    parser.add_argument("--carry", action="store_true", help="take uncommitted changes into a clone")
    parser.add_argument("--yes", action="store_true", help="do not ask before starting")


def options_from(parsed: argparse.Namespace, arguments: tuple[str, ...] = ()) -> Options:
    return Options(
        agent=parsed.agent,
        backend=parsed.backend,
        workspace=parsed.workspace,
        folder=parsed.folder,
        carry=parsed.carry,
        arguments=arguments,
    )


def show_preflight(screen: Screen, prepared: Prepared) -> None:
    from claude_bottle.operations.preflight import describe

    for label, text in describe(prepared):
        screen.pair(label, text)


def launch_agreed(
    context: Context, screen: Screen, options: Options, *, yes: bool, dry: bool = False
) -> Launched | None:
    """Plans, shows, asks and launches. None where the operator only looked, or said no."""
    backend = choose_backend(context, options)
    warm = (
        warm_up(context, backend) if yes and not dry else None
    )  # nothing starts before the operator has agreed
    try:
        from claude_bottle.operations.launch import abandon, launch
        from claude_bottle.operations.prepare import prepare

        prepared = prepare(context, options, backend)
        try:
            show_preflight(screen, prepared)
            agreed = not dry and screen.confirm("Start it?", yes)
        except BaseException:
            abandon(prepared)
            raise
        if not agreed:
            abandon(prepared)
            return None
    except BaseException:
        if warm is not None:
            warm.abandon()
        raise
    return launch(context, prepared, screen.step, screen.ask, warm)


def report(screen: Screen, settled: Settled) -> None:
    """Says what came back and what is left."""
    from claude_bottle.text import plural

    for problem in settled.problems:
        screen.say(problem)
    if settled.work.refs:
        screen.say(f"work: {plural(len(settled.work.refs), 'ref')} in refs/bottles/{settled.slug}/")
        for ref, commit in settled.work.refs:
            screen.say(f"  {commit[:10]} {ref}")
        screen.say(f"  look: git log {settled.work.tip}    take: git merge {settled.work.tip}")
    if settled.preserved:
        screen.say(f"the state of {settled.slug} is preserved; its work: claude-bottle pull {settled.slug}")
        screen.say(f"to go on: claude-bottle resume {settled.slug}")


def refuse_arguments(given: list[str]) -> tuple[str, ...]:
    """Words for claude, less what a bottle always gives it."""
    from claude_bottle.errors import UsageError

    if "--dangerously-skip-permissions" in given:
        raise UsageError("--dangerously-skip-permissions is given already")
    return tuple(given)
