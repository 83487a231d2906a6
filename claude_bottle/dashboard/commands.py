"""The command line's own commands, as programs that the dashboard starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from claude_bottle.backend.python import PACKAGE_ROOT

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from claude_bottle.cli import console; console()"
# What finding a bottle and drawing on a terminal needs of the operator's environment; none of it is secret.
_NAMES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"),
    *("CLAUDE_BOTTLE_HOME", "CLAUDE_BOTTLE_BACKEND", "NO_COLOR", "COLORTERM"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
)


def own(*arguments: str) -> list[str]:
    """`claude-bottle ARGUMENTS`, by the interpreter and from the place that run this."""
    return [sys.executable, "-I", "-c", _START, PACKAGE_ROOT, *arguments]


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """What a pane of tmux, which has its server's environment, must be told."""
    return {name: environment[name] for name in _NAMES if environment.get(name)}
