"""The first program of the sidecars' container: starts Envoy, and loads all else while that comes up.

Rule. Nothing that takes long to load is loaded before Envoy runs: somebody waits for both, so they come up
side by side. What the bundle does from there on is in `container_life`.
"""

from __future__ import annotations

import json
import os
import signal

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.confine import confined, set_undumpable
from claude_bottle.sidecars.egress.envoy_start import (
    CLUSTERS_FILE,
    ENVOY_CONFIG,
    ENVOY_LOG,
    LISTENERS_FILE,
    envoy_argv,
    envoy_bootstrap,
)
from claude_bottle.sidecars.lines import SILENCE_SECONDS, Lines, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def start(arguments: list[str]) -> NoReturn:
    """FOLDER LOG_FOLDER HAND_FOLDER ENVOY FILTER"""
    os._exit(main(*arguments))


def main(folder: str, log_folder: str, hand: str, envoy: str, envoy_filter: str) -> int:
    signal.alarm(SILENCE_SECONDS)
    reporter, lines = Reporter(), Lines()
    os.umask(0o077)
    set_undumpable()
    os.chdir(folder)
    log = os.open(os.path.join(log_folder, "bundle.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    argv = confined(envoy_filter, envoy_argv(envoy, ENVOY_CONFIG))
    try:
        child = _start_envoy(argv)
        reporter.step("bundle")
        import asyncio

        from claude_bottle.sidecars.container_life import Container

        spec = _spec(lines)
        spec["bundle"]["envoy"] = argv
        reason = asyncio.run(Container(spec, child, hand, lines, reporter).live())
    except BottleError as error:
        reporter.say(error=error.message, hint=error.hint)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the starting command must hear of it
        reporter.say(error=f"{type(error).__name__}: {error}")
        return 1
    os.write(2, f"ended: {reason}\n".encode())
    return 0


def _start_envoy(argv: list[str]) -> Child:
    """It knows nothing of any bottle yet: its files are the same for all of them, or empty."""
    empty: dict[str, object] = {"resources": []}
    files = {ENVOY_CONFIG: envoy_bootstrap(), CLUSTERS_FILE: empty, LISTENERS_FILE: empty}
    for name, content in files.items():
        write_for_envoy(name, content, None)
    return Child(argv, ENVOY_LOG)


def _spec(lines: Lines) -> dict[str, Any]:
    while (line := lines.next()) == b"alive":
        signal.alarm(SILENCE_SECONDS)
    signal.alarm(SILENCE_SECONDS)
    found: dict[str, Any] = json.loads(line)
    return found
