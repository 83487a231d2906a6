"""Run an agent on one prompt without a terminal; then its work is handed over and the bottle ends.

The exit status is claude's own.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from claude_bottle.cli.launching import add_launch_options, launch_agreed, options_from, report
from claude_bottle.cli.screen import Screen

if TYPE_CHECKING:
    from claude_bottle.operations.choices import Unanswered


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent")
    parser.add_argument(
        "-p", "--prompt", required=True, metavar="PROMPT", help="what to do; - reads standard input"
    )
    add_launch_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the answer's text")
    parser.add_argument("--timeout", metavar="TIME", default="1h", help="such as 90s, 10m or 2h (default 1h)")
    parser.add_argument(
        "--wait-for-operator",
        nargs="?",
        const="",
        metavar="TIME",
        help="let what the agent asks for wait for your answer, for so long where a time is given; without"
        " this, and where the manifest says nothing, it is rejected at once",
    )


def run(options: argparse.Namespace, screen: Screen) -> int:
    import os
    import sys

    from claude_bottle.operations.context import system_context
    from claude_bottle.operations.decisions import summary
    from claude_bottle.operations.headless import converse, seconds
    from claude_bottle.operations.notify import watch
    from claude_bottle.operations.settle import settle

    timeout = seconds(options.timeout)
    prompt = _text(sys.stdin.buffer.read() if options.prompt == "-" else os.fsencode(options.prompt))
    asked = options_from(options)._replace(unanswered=_unanswered(options.wait_for_operator))
    context = system_context()
    launched = launch_agreed(context, screen, asked, yes=options.yes)
    if launched is None:
        return 0
    answer, bottle = None, launched.bottle
    watching = watch(context, launched.metadata, launched.notify, screen.say) if launched.supervised else None
    try:
        answer, bottle = converse(context, launched, prompt, timeout)
    finally:
        if watching is not None:
            watching.stop()
        counted = summary(launched.paths.decisions)
        why = "" if answer is None else f"claude ended with status {answer.status}"
        keep = answer is None or answer.status != 0
        settled = settle(context, launched.metadata, bottle, keep=keep, why=why)
        report(screen, settled)
    if options.json:
        screen.put_json(
            {
                "slug": settled.slug,
                "status": answer.status,
                "result": answer.result,
                "text": answer.text,
                "work": [{"ref": ref, "commit": commit} for ref, commit in settled.work.refs],
                "decisions": counted,
                "preserved": settled.preserved,
                "problems": list(settled.problems),
            }
        )
    else:
        screen.put_bytes(answer.text.encode() + b"\n")
    if answer.complaint:
        screen.say(f"claude: {answer.complaint}")
    return answer.status or (1 if settled.problems else 0)


def _unanswered(wait: str | None) -> Unanswered:
    from claude_bottle.manifest.model import REJECT, WAIT, Supervise
    from claude_bottle.operations.choices import Unanswered
    from claude_bottle.operations.headless import seconds

    if wait is None:
        return Unanswered(Supervise(unanswered=REJECT))
    if not wait:
        return Unanswered(Supervise(unanswered=WAIT), over=True)
    return Unanswered(Supervise(unanswered=REJECT, after=int(seconds(wait))), over=True)


def _text(prompt: bytes) -> str:
    from claude_bottle.errors import UsageError

    try:
        return prompt.decode()
    except UnicodeDecodeError as error:
        raise UsageError("the prompt is not UTF-8 text") from error
