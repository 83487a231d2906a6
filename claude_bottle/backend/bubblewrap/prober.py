"""Asks the probe's questions inside a bottle, with nothing of the bottle's own files or programs.

The modules are loaded before the bottle is entered, so no program of the bottle can answer in their place.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from claude_bottle.backend.bubblewrap.enter import FAILED_TO_ENTER, Inside, enter
from claude_bottle.backend.bubblewrap.entry import NotRunning
from claude_bottle.backend.probe import answers_as_json


def start(arguments: list[str]) -> NoReturn:
    """RUN_DIRECTORY; questions as one JSON line on standard input, answers as JSON on standard output."""
    questions = json.loads(sys.stdin.buffer.read())

    def become(_: dict[bytes, bytes]) -> NoReturn:
        os.write(1, answers_as_json(questions).encode())
        os._exit(0)

    try:
        sys.exit(enter(arguments[0], Inside(become)))
    except (OSError, NotRunning) as error:
        print(f"the probe cannot enter: {error}", file=sys.stderr)
        sys.exit(FAILED_TO_ENTER)
