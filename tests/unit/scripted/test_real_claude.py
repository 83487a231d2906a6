"""The real Claude Code follows a script: its tools really run, and what they did is what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_bottle.scripted.parse import load_script, parse_script
from claude_bottle.scripted.server import ScriptedModel

from .conftest import RealClaude

pytestmark = pytest.mark.needs("claude")

FIXTURES = Path(__file__).parents[2] / "fixtures" / "scripts"
TEST = """import unittest

from adder import add


class Adds(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)
"""


@pytest.fixture
def repository(real_claude: RealClaude) -> Path:
    workspace = real_claude.workspace
    (workspace / "adder.py").write_text("def add(a, b):\n    return a - b\n")
    (workspace / "test_adder.py").write_text(TEST)
    real_claude.give()
    for command in (
        ("init", "-q"),
        ("config", "user.name", "Tester"),
        ("config", "user.email", "tester@example.org"),
        ("add", "."),
        ("commit", "-qm", "Start"),
    ):
        done = real_claude.run(["git", *command], {})
        assert done.returncode == 0, done.stderr
    return workspace


def test_it_mends_a_small_repository(real_claude: RealClaude, repository: Path) -> None:
    with ScriptedModel(load_script(FIXTURES / "fix-the-test.yaml")) as model:
        done = real_claude.print_mode(model.url, "Please fix the test.", "--output-format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (model.failures, model.finished) == ((), True)
    assert json.loads(done.stdout)["result"] == model.script.turns[-1].say[0]
    assert (repository / "adder.py").read_text() == "def add(a, b):\n    return a + b\n"
    log = real_claude.run(["git", "log", "--format=%s"], {}).stdout
    assert log == "Add instead of subtracting\nStart\n"


def test_a_script_goes_on_in_another_process_and_ends_where_an_expectation_is_unmet(
    real_claude: RealClaude,
) -> None:
    script = parse_script(
        {
            "name": "two",
            "turns": [
                {"say": "One.", "prompt": {"contains": "first"}, "system": {"contains": "a purple rule"}},
                {"tools": [{"name": "Bash", "input": {"command": "echo $((40 + 2)); exit 3"}}]},
                {"say": "Never said.", "expect": [{"contains": "42", "is_error": False}]},
            ],
            "require_headers": {"x-api-key": "placeholder"},
        }
    )
    with ScriptedModel(script) as model:
        first = real_claude.print_mode(model.url, "the first", "--append-system-prompt", "a purple rule")
        second = real_claude.print_mode(model.url, "the second", "--continue")
    assert (first.stdout, first.returncode) == ("One.\n", 0)
    (failure,) = model.failures
    assert failure.startswith("turns[2] result 0 (Bash) is an error: ")
    assert "42" in failure
    assert failure in second.stdout
    assert not model.finished
