"""`attach`: from the command to claude's first drawing, beside the same claude alone on a terminal.

Once where it starts claude, and once more where claude runs already.
"""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.children import COMMAND, ROOT, UnmeasuredError, on_terminal
from bench.commands import scripted_model
from bench.figures import Figure, compared, in_turn
from bench.lab import Lab
from bench.operator import operator
from claude_bottle.operations import claude
from claude_bottle.operations.credentials import find_claude

_SECONDS = 30.0
_KEPT = ("CLAUDE_CODE_", "DISABLE_", "ANTHROPIC_")
_DRAWING = b"\x1b"  # nothing before it on this terminal is a control sequence


def bubblewrap(_: Lab) -> Iterator[Figure]:
    yield from _attach("bubblewrap")


def docker(_: Lab) -> Iterator[Figure]:
    yield from _attach("docker")


def _attach(backend: str) -> Iterator[Figure]:
    again: list[float] = []

    def bottle() -> float:
        with owner.running() as slug:
            argv = [COMMAND, "attach", slug]
            first = _until_drawn(argv, owner.environment, owner.repository)
            again.append(_until_drawn(argv, owner.environment, owner.repository))
        return first

    with operator(backend) as owner, scripted_model() as url, tempfile.TemporaryDirectory() as folder:
        owner.declare(upstream=url)
        alone = _at_home(Path(folder), url)
        binary = str(find_claude(alone, ROOT))
        pairs = in_turn(bottle, lambda: _until_drawn([binary], alone, owner.repository), rounds=8, seconds=40)
    yield compared(f"attach.{backend}", "ms", pairs)
    baselines = [baseline for _, baseline in pairs]
    yield compared(f"attach.{backend}.again", "ms", list(zip(again[-len(pairs) :], baselines, strict=True)))


def _at_home(folder: Path, url: str) -> dict[str, str]:
    """Claude as it is in a bottle, without one."""
    for name, text in claude.files("", ("bench", "bench@bottle.invalid")).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = dict(claude.environment(claude.API_KEY))
    kept = {
        name: value
        for name, value in own.items()
        if name.startswith(("CLAUDE_CODE_", "DISABLE_", "ANTHROPIC_"))
    }
    places = {"HOME": str(folder), "CLAUDE_CONFIG_DIR": str(folder / ".claude"), "PATH": os.environ["PATH"]}
    return {**kept, **places, "ANTHROPIC_BASE_URL": url}


def _until_drawn(argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> float:
    """Milliseconds until something is drawn; then the program is killed."""
    began = time.perf_counter()
    with on_terminal(argv, {**environment, "TERM": "xterm-256color"}, folder) as screen:
        seen = b""
        while _DRAWING not in seen:
            left = _SECONDS - (time.perf_counter() - began)
            if not select.select([screen], [], [], max(0.0, left))[0]:
                raise UnmeasuredError(f"{argv[0]} draws nothing: {seen[-200:]!r}")
            with suppress(BlockingIOError):
                part = os.read(screen, 65536)
                if not part:
                    raise UnmeasuredError(f"{argv[0]} ended: {seen[-200:]!r}")
                seen += part
        return (time.perf_counter() - began) * 1000
