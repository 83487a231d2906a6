"""Commands that look, and Claude Code in a bottle: whole processes, beside the least that there can be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.children import PYTHON, ROOT, UnmeasuredError, ended_after, stream_of, whole_process
from bench.figures import Figure, compared, in_turn
from bench.lab import Lab
from bench.operator import AGENT

_SCRIPT = ROOT / "tests" / "fixtures" / "scripts" / "fix-the-test.yaml"
_PROMPT = "Please fix the test."
_FILES = {
    "adder.py": "def add(a, b):\n    return a - b\n",
    "test_adder.py": "import unittest\n\nfrom adder import add\n\n\nclass Adds(unittest.TestCase):\n"
    "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n",
}


def bare_python() -> float:
    return whole_process([PYTHON, "-c", "pass"]) * 1000


def import_cli(lab: Lab) -> Iterator[Figure]:
    """`claude-bottle --help`, against the same Python doing nothing."""
    yield _against_python(lab, "import.cli", "--help")


def list_empty(lab: Lab) -> Iterator[Figure]:
    """`list` where no bottle ever was, against the same Python doing nothing."""
    from bench.operator import operator

    with operator() as newcomer:
        pairs = in_turn(lambda: newcomer.seconds_of("list") * 1000, bare_python, rounds=30, seconds=8)
    yield compared("list.empty", "ms", pairs)


def list_one(lab: Lab) -> Iterator[Figure]:
    """`list` with one bottle running, against the same Python doing nothing."""
    with lab.operator.running():
        yield _against_python(lab, "list.one", "list")


def _against_python(lab: Lab, bench: str, *arguments: str) -> Figure:
    pairs = in_turn(lambda: lab.operator.seconds_of(*arguments) * 1000, bare_python, rounds=30, seconds=8)
    return compared(bench, "ms", pairs)


def run(lab: Lab) -> Iterator[Figure]:
    """`run` of a scripted conversation that mends a test, against the same Claude Code without a bottle."""
    from bench.operator import operator
    from claude_bottle.operations.credentials import find_claude

    with operator() as worker, scripted_model() as url:
        worker.declare(upstream=url)
        claude = str(find_claude(worker.environment, ROOT))
        argv = [claude, "--print", _PROMPT, "--dangerously-skip-permissions", "--output-format", "json"]
        alone = worker.environment | {
            "ANTHROPIC_BASE_URL": url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",  # else it refuses to run without questions as root
        }

        def bottled() -> float:
            worker.commit(_FILES)
            return worker.seconds_of("run", AGENT, "--prompt", _PROMPT, "--yes", "--backend", "bubblewrap")

        def bare() -> float:
            worker.commit(_FILES)
            return whole_process(argv, alone, worker.repository)

        pairs = in_turn(bottled, bare, rounds=5, seconds=25)
    yield compared("e2e.run", "s", pairs)


@contextmanager
def scripted_model() -> Iterator[str]:
    """The address of a model that follows the script."""
    import json

    process = subprocess.Popen(
        [PYTHON, "-m", "claude_bottle.scripted", str(_SCRIPT)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        start_new_session=True,
    )
    with ended_after(process):
        line = stream_of(process.stdout).readline()
        if not line:
            raise UnmeasuredError("the scripted model did not start")
        yield json.loads(line)["url"]
