"""Show what this host can do and how to mend what it cannot. Exit 0 where bottles can be made, else 5."""

from __future__ import annotations

import argparse

from claude_bottle.cli.screen import Screen


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", metavar="B", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace, screen: Screen) -> int:
    from claude_bottle.errors import EXIT_BACKEND_MISSING, EXIT_OK
    from claude_bottle.operations.context import reading_context
    from claude_bottle.operations.doctor import examine
    from claude_bottle.text import shown

    findings = examine(reading_context(), options.backend)
    if options.json:
        screen.put_json({"findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            mark = "ok " if finding.ok else ("NO " if finding.needed else "-  ")
            screen.put(f"{mark} {shown(finding.name):<24} {shown(finding.text, 300)}")
            if not finding.ok and finding.hint:
                screen.put(f"    {'':<24} {shown(finding.hint, 300)}")
    return EXIT_OK if all(finding.ok for finding in findings if finding.needed) else EXIT_BACKEND_MISSING
