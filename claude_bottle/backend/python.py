"""How a module of this package becomes a program of its own, with nothing of environment, user or site."""

from __future__ import annotations

import os
import sys

import claude_bottle

PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(claude_bottle.__file__)))
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from claude_bottle.{} import start; start(sys.argv[1:])"
)


def python_argv(module: str, package_root: str, *arguments: str, interpreter: str | None = None) -> list[str]:
    """Runs `start(arguments)` of claude_bottle.MODULE, by the interpreter that runs this, unless told.

    A virtual environment costs time and adds nothing.
    """
    chosen = str(interpreter or getattr(sys, "_base_executable", sys.executable))
    return [chosen, "-I", "-S", "-c", _START.format(module), package_root, *arguments]


def whole_python_argv(module: str, *arguments: str) -> list[str]:
    """The same with what this environment has installed, for what needs more than this package."""
    return [sys.executable, "-I", "-c", _START.format(module), PACKAGE_ROOT, *arguments]
