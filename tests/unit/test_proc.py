"""The one place that starts programs: what they see, how much they may say, and how long they may take."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.proc import (
    Command,
    ProgramMissing,
    Result,
    SystemRunner,
    checked,
    environment_for,
    find_program,
)
from tests.support.fake_runner import MissingCommand, UnexpectedCommand, fake_runner, says
from tests.support.processes import eventually, running_with

HOST = {"PATH": os.environ["PATH"], "HOME": "/home/operator", "SECRET": "hunter2", "TERM": "xterm"}


def run(*argv: str, **options: object) -> Result:
    return SystemRunner(HOST).run(Command(argv, **options))  # type: ignore[arg-type]


def python(code: str, **options: object) -> Result:
    return run(sys.executable, "-I", "-S", "-c", code, **options)


def test_status_output_and_complaint_come_back() -> None:
    done = run("sh", "-c", "echo out; echo first >&2; echo last >&2; exit 7")
    assert (done.status, done.text, done.complaint) == (7, "out\n", "last")
    assert run("sh", "-c", "exit 3").complaint == "exit status 3"


def test_standard_input_is_what_was_given_and_nothing_else() -> None:
    assert run("cat").stdout == b""
    big = os.urandom(1 << 20)
    assert run("cat", stdin=big).stdout == big


def test_the_environment_is_built_from_names() -> None:
    command = Command(("env",), keep=("TERM", "ABSENT"), environment=(("GIVEN", "1"), ("HOME", "/elsewhere")))
    seen = dict(line.split("=", 1) for line in SystemRunner(HOST).run(command).text.splitlines())
    assert {key: seen.get(key) for key in ("HOME", "TERM", "GIVEN")} == {
        "HOME": "/elsewhere",
        "TERM": "xterm",
        "GIVEN": "1",
    }
    assert "SECRET" not in seen
    assert "ABSENT" not in seen


def test_without_a_name_nothing_private_passes() -> None:
    private = dict.fromkeys(("SECRET", "LD_PRELOAD", "PYTHONPATH", "ANTHROPIC_API_KEY", "GIT_DIR"), "x")
    assert environment_for(Command(("true",)), {"PATH": "/bin", **private}) == {"PATH": "/bin"}


def test_a_program_that_says_too_much_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with pytest.raises(BottleError, match="said more than 1 MiB"):
        run("sh", "-c", 'echo $$ > "$0"; exec yes', str(mark), limit=1 << 20)
    assert not Path("/proc", mark.read_text().strip()).exists()


def test_as_much_as_the_limit_is_fine() -> None:
    assert len(python("print('x' * 99999)", limit=100_000).stdout) == 100_000


def test_complaints_without_end_take_no_room(tmp_path: Path) -> None:
    """A hostile program's standard error is neither kept on disk nor in memory."""
    noise = "import os\nfor _ in range(600): os.write(2, b'x' * 99999 + b'\\n')\nos.write(2, b'the end\\n')"
    before = os.environ.get("TMPDIR")
    done = python(noise)
    assert os.environ.get("TMPDIR") == before
    assert done.complaint == "the end"
    assert len(done.stderr) <= 1 << 20


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import time; time.sleep(600)", id="silent"),
        pytest.param("import os, time; os.close(1); os.close(2); time.sleep(600)", id="outputs-closed"),
        pytest.param("import os, time; os.close(1)\nwhile True: os.write(2, b'x')", id="noisy"),
        pytest.param("import time\nwhile True: print('x', flush=True); time.sleep(.001)", id="chatty"),
    ],
)
def test_a_program_that_does_not_end_is_ended(tmp_path: Path, code: str) -> None:
    mark = str(tmp_path / "pid")
    with pytest.raises(BottleError, match="did not end within"):
        python(f"import os; open({mark!r}, 'w').write(str(os.getpid()))\n{code}", timeout=0.4)
    assert not Path("/proc", Path(mark).read_text()).exists()


def test_what_it_leaves_in_the_background_is_not_waited_for() -> None:
    """As an ssh that keeps its connection open does, with git's standard error."""
    done = run("sh", "-c", "sleep 600 >/dev/null </dev/null & echo $!")  # it keeps standard error open
    pid = int(done.text)
    try:
        assert done.status == 0
    finally:
        os.kill(pid, 9)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramMissing, match="no-such-program-here was not found"):
        run("no-such-program-here")


def test_a_program_that_cannot_be_run_is_a_plain_error(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/nowhere/at/all\n")
    with pytest.raises(BottleError):
        run(str(program))
    program.chmod(0o755)
    with pytest.raises(BottleError):
        run(str(program))


def test_a_missing_folder_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(BottleError, match="gone") as caught:
        run("true", cwd=str(tmp_path / "gone"))
    assert not isinstance(caught.value, ProgramMissing)


def test_an_interrupted_wait_ends_the_program(tmp_path: Path) -> None:
    import signal

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    mark = f"{tmp_path}/interrupted"
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("sh", "-c", "while :; do sleep 1; done", mark)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert eventually(lambda: not running_with(mark))


def test_checked_names_the_failure_and_the_last_words() -> None:
    with fake_runner((("git", "x"), says(status=1, complaint="one\ntwo\n"))) as runner:
        with pytest.raises(BottleError, match=r"^git cannot: two$"):
            checked(runner, Command(("git", "x")), "git cannot")


def test_find_program(tmp_path: Path) -> None:
    for name, mode in (("plain", 0o644), ("tool", 0o755)):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    (tmp_path / "folder").mkdir()
    path = f"{tmp_path}/nowhere:{tmp_path}"
    assert find_program("tool", path) == str(tmp_path / "tool")
    assert [find_program(name, path) for name in ("plain", "folder", "absent")] == [None, None, None]


def test_the_fake_fails_on_an_unexpected_command() -> None:
    with fake_runner() as runner, pytest.raises(UnexpectedCommand):
        runner.run(Command(("rm",)))
    with fake_runner((("git", "a"), says())) as runner:
        with pytest.raises(UnexpectedCommand):
            runner.run(Command(("git", "b")))


def test_the_fake_fails_on_a_missing_command() -> None:
    with pytest.raises(MissingCommand), fake_runner((("git", ...), says("1"))):
        pass
    with fake_runner((("git", ...), says("1"))) as runner:
        assert runner.run(Command(("git", "any", "thing"))).text == "1"


def test_no_clock_is_needed_for_a_quick_program() -> None:
    deadline = time.monotonic() + 100
    assert run("true").status == 0
    assert time.monotonic() < deadline
