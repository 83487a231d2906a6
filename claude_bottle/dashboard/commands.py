"""The command line's own commands, as programs that the dashboard starts."""

from __future__ import annotations

import sys

from claude_bottle.backend.python import PACKAGE_ROOT

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from claude_bottle.cli import console; console()"


def own(*arguments: str) -> list[str]:
    """`claude-bottle ARGUMENTS`, by the interpreter and from the place that run this."""
    return [sys.executable, "-I", "-c", _START, PACKAGE_ROOT, *arguments]
