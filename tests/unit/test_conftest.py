"""The skip machinery of tests/conftest.py, run for real in a project of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A checkout with this conftest, on a machine that has no tools at all."""
    (pytester.mkdir("tests") / "conftest.py").write_text(
        CONFTEST.read_text(encoding="utf-8"), encoding="utf-8"
    )
    monkeypatch.setenv("PATH", str(pytester.mkdir("empty")))
    for name in ("REQUIRE_BACKENDS", "CLAUDE_BOTTLE_CLAUDE"):
        monkeypatch.delenv(name, raising=False)
    return pytester


def write_tests(project: pytest.Pytester, source: str) -> None:
    (project.path / "tests" / "test_it.py").write_text("import pytest\n" + source, encoding="utf-8")


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    fixed = ("-ra", "--strict-markers", "-p", "no:hypothesispytest")
    return project.runpytest_inprocess(*fixed, *options, "tests", no_reraise_ctrlc=True)


def tool(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


ASKS_FOR_TMUX = '@pytest.mark.needs("tmux")\ndef test_it(): pass\n'


def test_a_missing_part_skips_and_says_why(project: pytest.Pytester) -> None:
    write_tests(project, ASKS_FOR_TMUX)
    result = run(project)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs tmux: tmux is not on the PATH"])


def test_a_missing_part_fails_where_it_is_required(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_BACKENDS", "docker, tmux")
    write_tests(project, ASKS_FOR_TMUX)
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*REQUIRE_BACKENDS names tmux, but tmux is not on the PATH*"])
    assert result.ret != 0


def test_another_part_that_is_required_changes_nothing(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_BACKENDS", "docker")
    write_tests(project, ASKS_FOR_TMUX)
    run(project).assert_outcomes(skipped=1)


def test_a_part_that_is_there_lets_the_test_run(project: pytest.Pytester) -> None:
    tool(project.path / "empty" / "tmux", "exit 0")
    write_tests(project, ASKS_FOR_TMUX)
    run(project).assert_outcomes(passed=1)


def test_a_part_that_is_there_but_does_not_work_is_missing(project: pytest.Pytester) -> None:
    tool(project.path / "empty" / "bwrap", "echo no user namespaces >&2; exit 1")
    write_tests(project, '@pytest.mark.needs("bubblewrap")\ndef test_it(): pass\n')
    result = run(project)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs bubblewrap:*ended with 1: no user namespaces"])


def test_all_parts_have_to_be_there(project: pytest.Pytester) -> None:
    tool(project.path / "empty" / "tmux", "exit 0")
    write_tests(project, '@pytest.mark.needs("tmux", "docker")\ndef test_it(): pass\n')
    run(project).assert_outcomes(skipped=1)


def test_a_part_is_probed_once_and_only_when_asked_for(project: pytest.Pytester) -> None:
    tool(project.path / "empty" / "tmux", f"echo tmux >>{project.path}/calls")
    tool(project.path / "empty" / "docker", f"echo docker >>{project.path}/calls")
    write_tests(
        project, '@pytest.mark.needs("tmux")\n@pytest.mark.parametrize("n", range(3))\ndef test_it(n): pass\n'
    )
    run(project).assert_outcomes(passed=3)
    assert (project.path / "calls").read_text(encoding="utf-8") == "tmux\n"


@pytest.mark.parametrize("source", ['@pytest.mark.needs("tmuxx")\ndef test_it(): pass\n'])
def test_a_misspelt_need_stops_the_run(project: pytest.Pytester, source: str) -> None:
    write_tests(project, source)
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*names tmuxx; known are*"])


def test_a_misspelt_requirement_stops_the_run(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_BACKENDS", "bublewrap")
    write_tests(project, "def test_it(): pass\n")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*REQUIRE_BACKENDS names bublewrap*"])


USES_CLAUDE = (
    'import pathlib\ndef test_it(claude_binary): pathlib.Path("found").write_text(str(claude_binary))\n'
)


def test_claude_is_the_chosen_one_then_the_newest_fetched_then_the_one_on_the_path(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tests(project, USES_CLAUDE)

    def found() -> Path:
        run(project).assert_outcomes(passed=1)
        return Path((project.path / "found").read_text(encoding="utf-8"))

    run(project).assert_outcomes(skipped=1)
    on_path = tool(project.path / "empty" / "claude", "exit 0")
    assert found() == on_path
    tool(project.path / ".tools/claude-code/2.1.9/claude", "exit 0")
    newest = tool(project.path / ".tools/claude-code/2.1.10/claude", "exit 0")
    assert found() == newest
    chosen = tool(project.path / "mine", "exit 0")
    monkeypatch.setenv("CLAUDE_BOTTLE_CLAUDE", str(chosen))
    assert found() == chosen


def test_a_chosen_claude_that_does_not_run_is_not_replaced_by_another(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(project.path / "empty" / "claude", "exit 0")
    monkeypatch.setenv("CLAUDE_BOTTLE_CLAUDE", str(project.path / "nowhere"))
    write_tests(project, USES_CLAUDE)
    run(project).assert_outcomes(skipped=1)


PARALLEL = ("-n", "2", "--dist", "loadfile")


def test_two_processes_skip_and_require_as_one_does(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_BACKENDS", "docker")
    write_tests(project, ASKS_FOR_TMUX + ASKS_FOR_TMUX.replace("tmux", "docker").replace("test_it", "test_2"))
    result = run(project, *PARALLEL)
    result.assert_outcomes(skipped=1, errors=1)
    result.stdout.fnmatch_lines(["*REQUIRE_BACKENDS names docker, but docker is not on the PATH*"])
    result.stdout.fnmatch_lines(["SKIPPED*needs tmux: tmux is not on the PATH"])


def test_in_two_processes_a_misspelt_need_fails(project: pytest.Pytester) -> None:
    write_tests(project, '@pytest.mark.needs("tmuxx")\ndef test_it(): pass\n')
    result = run(project, *PARALLEL)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*names tmuxx; known are*"])


TELLS = """
import os, pathlib, pytest
@pytest.hookimpl(trylast=True)
def pytest_runtest_logstart():
    if os.getpid() == {pid}:
        pathlib.Path("heard").touch()
def pytest_keyboard_interrupt():
    pathlib.Path("interrupted").touch()
"""
SLOW = """
import os, pathlib, signal, time
def test_slow():
    while not pathlib.Path("heard").exists(): time.sleep(0.02)
    os.kill({pid}, signal.SIGINT)
    while not pathlib.Path("interrupted").exists(): time.sleep(0.02)
"""


@pytest.mark.parametrize("options", [(), PARALLEL])
def test_a_run_that_is_interrupted_says_where_it_was(
    project: pytest.Pytester, options: tuple[str, ...]
) -> None:
    """A test in a process of its own goes on meanwhile, and ends by itself: the run waits for it a while."""
    (project.path / "conftest.py").write_text(TELLS.format(pid=os.getpid()), encoding="utf-8")
    write_tests(project, SLOW.format(pid=os.getpid()))
    result = run(project, *options)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["INTERRUPTED tests/test_it.py::test_slow"])
