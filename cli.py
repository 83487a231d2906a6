#!/usr/bin/env python3
"""The entry from a checkout: `./cli.py start reviewer` is `claude-bottle start reviewer`.

Invariant: the code that runs is this checkout's, in this checkout's environment where there is one.
"""

from __future__ import annotations

import os
import sys

# os.path, as pathlib costs more than all the rest before the environment's own Python takes over.
ROOT = os.path.dirname(os.path.realpath(__file__))
PYTHON = os.path.join(ROOT, ".venv", "bin", "python")


def main() -> int:
    if sys.executable != PYTHON and os.access(PYTHON, os.X_OK):
        os.execv(PYTHON, [PYTHON, "-I", os.path.join(ROOT, "cli.py"), *sys.argv[1:]])
    if sys.version_info < (3, 11):
        print("claude-bottle needs Python 3.11 or newer. Run script/bootstrap.", file=sys.stderr)
        return 5
    sys.path.insert(0, ROOT)
    try:
        from claude_bottle.cli import main as claude_bottle
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("claude_bottle"):
            raise
        print(f"{error.name} is missing here. Run script/bootstrap, then try again.", file=sys.stderr)
        return 5
    return claude_bottle()


if __name__ == "__main__":
    sys.exit(main())
