"""The record of what was asked, decided, changed, started and ended.

show: a row for each line: when TAB kind TAB whose TAB what TAB by whom; --json has all of each, an object a
line. verify: reads the whole record and says what in it is not as it was written: 0 where it is whole, 1
where it is not. It finds a changed, missing, added or moved line, also at the end; it cannot find that
somebody has made all of it anew.
"""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen
from claude_bottle.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "verify"))
    parser.add_argument("--agent", metavar="A", help="show: of this agent, or of this one launch of it")
    parser.add_argument(
        "--since", metavar="T", help="show: from then on: 2h, 7d, or a date such as 2026-11-22"
    )
    parser.add_argument(
        "--kind",
        metavar="K",
        help="show: proposal, decision, edit, outcome, start, stop, denials, undecided, audit",
    )
    parser.add_argument("--json", action="store_true", help="show: one JSON object a line; verify: one")


def run(options: argparse.Namespace, screen: Screen) -> int:
    import os

    from claude_bottle.state.paths import home_from

    home = home_from(os.environ)
    if options.action == "verify":
        if options.agent or options.since or options.kind:
            raise UsageError("verify reads all of it", "leave the options out")
        from claude_bottle.state.audit_check import verify
        from claude_bottle.text import plural

        report = verify(home)
        if options.json:
            screen.put_json({"whole": not report.faults, **report._asdict()})
        else:
            for note in report.notes:
                screen.say(note)
            for fault in report.faults:
                screen.say(f"NOT WHOLE: {fault}")
            verdict = "damaged" if report.faults else "whole"
            screen.say(f"{plural(report.lines, 'line')} in {plural(report.days, 'day')}: {verdict}")
        return 1 if report.faults else 0
    from claude_bottle.operations.auditing import as_fields, select
    from claude_bottle.text import shown

    for line in select(home, options.agent, options.since, options.kind):
        if options.json:
            screen.put_json(line)
        else:
            screen.put("\t".join(shown(field, 1000) for field in as_fields(line)))
    return 0
