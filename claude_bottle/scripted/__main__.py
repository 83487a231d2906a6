"""`python -m claude_bottle.scripted SCRIPT [--port N]`: serve a script until SIGTERM or Ctrl-C.

Writes one JSON line with the port when it listens. Ends with 0 only if all was said and nothing failed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

from claude_bottle.errors import EXIT_FAILED, EXIT_OK, BottleError
from claude_bottle.scripted.parse import load_script
from claude_bottle.scripted.server import ScriptedModel


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claude_bottle.scripted", description=__doc__)
    parser.add_argument("script", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    try:
        script = load_script(options.script)
        model = ScriptedModel(script, port=options.port)
    except BottleError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"cannot listen on port {options.port}: {error}\n")
        return EXIT_FAILED
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with model:
        sys.stdout.write(json.dumps({"port": model.port, "url": model.url}) + "\n")
        sys.stdout.flush()
        stop.wait()
    return report(model)


def report(model: ScriptedModel) -> int:
    for failure in model.failures:
        sys.stderr.write(f"{failure}\n")
    if not model.finished:
        sys.stderr.write(f"the script {model.script.name!r} was not said to its end\n")
    return EXIT_OK if model.finished and not model.failures else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
