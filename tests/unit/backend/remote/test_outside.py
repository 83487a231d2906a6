"""A program elsewhere is as one here: what it says, what it is told, how it ends, and that it ends with its caller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE, command_of, descendants, eventually, running_with
from tests.unit.backend.remote.calls import (
    WRITER,
    appears,
    call,
    caller,
    child_of,
    first_line,
    run,
    script,
    started,
    transport,
)

MIB = 1 << 20
PENDING = 4 * MIB
CATCHER = """
import signal
def caught(number, _):
    os.write(1, b"caught %d\\n" % number)
    os._exit(9)
for number in (1, 2, 3, 15):
    signal.signal(number, caught)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


@pytest.mark.parametrize("status", [0, 1, 7, 124, 125, 126, 127, 128, 129, 200, 254, 255])
def test_the_status_is_the_programs(place: Path, status: int) -> None:
    assert run(call(place, "sh", "-c", f"exit {status}")) == (status, b"", b"")


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15, 25, 34, 64])
def test_a_program_that_a_signal_ends_has_128_and_its_number(place: Path, number: int) -> None:
    program = f"import os, signal; signal.signal({number}, 0) if {number} != 9 else 0; os.kill(os.getpid(), {number})"
    done = run(call(place, "sh", "-c", 'ulimit -c 0; exec "$@"', "sh", sys.executable, "-c", program))
    assert done == (128 + number, b"", b"")


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        pytest.param(["no-such-program"], 127, b"no-such-program: not found", id="unknown"),
        pytest.param(["/no/such"], 127, b"/no/such: not found", id="unknown-path"),
        pytest.param(["/etc/passwd"], 126, b"/etc/passwd: Permission denied", id="not-executable"),
        pytest.param(["/etc"], 126, b"/etc: Permission denied", id="folder"),
        pytest.param(["./odd"], 126, b"./odd: Exec format error", id="no-program"),
        pytest.param(["./lost"], 127, b"./lost: not found", id="interpreter-missing"),
    ],
)
def test_what_cannot_be_run_is_told_as_a_shell_does(
    place: Path, argv: list[str], status: int, said: bytes
) -> None:
    for name, content in (("odd", "\x7f"), ("lost", "#!/no/such/interpreter\n")):
        (place / name).write_text(content)
        (place / name).chmod(0o755)
    done = run(call(place, *argv))
    assert done[:2] == (status, b"")
    assert said in done[2]


@pytest.mark.parametrize(("folder", "status"), [("gone", 127), ("file", 126)])
def test_a_folder_that_is_none_runs_nothing_and_is_named(place: Path, folder: str, status: int) -> None:
    (place / "file").touch()
    done = run(call(place / folder, "touch", str(place / "ran")))
    assert done[:2] == (status, b"")
    assert folder.encode() in done[2]
    assert not (place / "ran").exists()


def test_output_and_complaints_are_kept_apart(place: Path) -> None:
    program = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 3"
    done = run(call(place, "sh", "-c", program))
    assert done == (3, b"out 1\nout 2\nout 3\n", b"err 1\nerr 2\nerr 3\n")


def test_any_bytes_go_both_ways(place: Path) -> None:
    data = os.urandom(10 * MIB)
    status, out, err = run(call(place, "sh", "-c", "tee /proc/self/fd/2"), data)
    assert (status, len(out), len(err)) == (0, len(data), len(data)), err[-200:]
    assert out == data
    assert err == data


@pytest.mark.parametrize("program", ["echo done", "exec 0<&-; sleep 0.1; echo done", "head -c 1; echo done"])
def test_input_that_nobody_reads_is_nothing(place: Path, program: str) -> None:
    status, out, _ = run(call(place, "sh", "-c", program), b"x" * PENDING)
    assert (status, out.lstrip(b"x")) == (0, b"done\n")


def test_the_end_of_input_is_told_and_only_then(place: Path) -> None:
    with started(
        place, call(place, "sh", "-c", "read x; echo first $x; cat; echo end"), stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert first_line(process) == b"first one\n"
        assert process.communicate(b"two\n") == (b"two\nend\n", b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_caller_whose_streams_are_closed_disturbs_nothing(place: Path, closed: str) -> None:
    """Else a stream of its own would take the number, and a program's output would go to the transport."""
    program = call(place, "sh", "-c", "cat; echo out; echo err >&2; touch ran; exit 3")
    status, out, err = run(["sh", "-c", f'exec "$@" {closed}', "sh", *program])
    assert status == 3
    assert (place / "ran").exists()
    assert out == (b"" if ">&-" in closed.replace("2>&-", "") else b"out\n")
    assert err == (b"" if "2>&-" in closed else b"err\n")


def test_what_runs_on_in_the_background_holds_nobody_up(place: Path) -> None:
    status, out, _ = run(call(place, "sh", "-c", "sleep 1000 & echo started"))
    assert (status, out) == (0, b"started\n")
    assert eventually(lambda: [command_of(process) for process in running_with(str(place))] == ["sleep"])


def test_what_writes_on_in_the_background_holds_nobody_up(place: Path) -> None:
    with started(
        place,
        call(place, "sh", "-c", "for i in 1 2 3 4; do cat /dev/zero & done; exit 3"),
        stdout=subprocess.DEVNULL,
    ) as process:
        assert process.wait(PATIENCE) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_reaches_the_program(place: Path, number: signal.Signals) -> None:
    with started(place, call(place, *script(place, CATCHER))) as process:
        assert first_line(process) == b"ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE)[0] == b"caught %d\n" % number
        assert process.returncode == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_overtakes_input_that_nobody_reads(
    place: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "input").write_bytes(b"x" * PENDING)
    with open(tmp_path / "input", "rb") as file:
        with started(place, call(place, *script(place, CATCHER)), stdin=file.fileno()) as process:
            assert first_line(process) == b"ready\n"
            assert eventually(lambda: settled(file.fileno()))
            assert 0 < os.lseek(file.fileno(), 0, os.SEEK_CUR) < PENDING
            process.send_signal(number)
            assert process.communicate(timeout=PATIENCE)[0] == b"caught %d\n" % number


def settled(descriptor: int) -> bool:
    """Whether as much of a file was read as will be for now; it is shared, so its place is."""
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    time.sleep(0.1)
    return 0 < before == os.lseek(descriptor, 0, os.SEEK_CUR)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_overtakes_output_that_nobody_takes(place: Path, number: signal.Signals) -> None:
    with started(place, call(place, *script(place, WRITER))) as process:
        assert appears(place / "full")
        process.send_signal(number)
        assert appears(place / f"caught-{number}")
        assert process.stdout is not None
        while process.stdout.read(MIB):
            pass
        assert process.wait(PATIENCE) == 9


def test_a_killed_caller_takes_the_whole_group_along(place: Path) -> None:
    program = "trap '' TERM HUP INT; sleep 1000 & sleep 1000 & echo ready; wait"
    with started(place, call(place, "sh", "-c", program)) as process:
        assert first_line(process) == b"ready\n"
        seen = 5 if os.geteuid() == 0 else 4  # caller, shell and both; where inside runs only root may see
        assert len(running_with(str(place))) == seen
        process.kill()
        assert eventually(lambda: running_with(str(place)) == [])


@pytest.mark.parametrize("input_", [b"", b"x" * PENDING])
def test_a_dead_transport_is_125(place: Path, input_: bytes) -> None:
    (place / "input").write_bytes(input_)
    with open(place / "input", "rb") as file:
        with started(
            place, call(place, "sh", "-c", "echo ready; exec sleep 1000"), stdin=file.fileno()
        ) as process:
            assert first_line(process) == b"ready\n"
            os.kill(child_of(process.pid), signal.SIGKILL)
            assert process.wait(PATIENCE) == 125
            assert eventually(lambda: running_with(str(place)) == [])


def test_a_transport_that_is_not_there_is_125(place: Path) -> None:
    status, out, err = run(caller([str(place / "gone")]))
    assert (status, out) == (125, b"")
    assert b"cannot enter the bottle" in err


def test_a_transport_says_itself_why_it_cannot(place: Path) -> None:
    assert run(caller(["sh", "-c", "sleep 0.1; echo no such bottle >&2; exit 1"])) == (
        125,
        b"",
        b"no such bottle\n",
    )


def test_the_last_words_come_before_the_status(place: Path) -> None:
    size = 3 * MIB
    status, out, err = run(call(place, "sh", "-c", f"head -c {size} /dev/zero; echo last >&2; kill -9 $$"))
    assert (status, len(out), err) == (137, size, b"last\n")


@pytest.mark.parametrize("target", [1, 2])
def test_output_that_nobody_wants_ends_the_program_as_a_broken_pipe(place: Path, target: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        chosen = {1: "stdout", 2: "stderr"}[target]
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, chosen: writer}
        argv = call(place, "sh", "-c", f"exec yes >&{target}")
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **streams)  # type: ignore[call-overload]
    finally:
        os.close(writer)
    assert process.wait(PATIENCE) == 128 + signal.SIGPIPE


def test_the_transport_is_told_nothing_of_the_terminals_keys(place: Path) -> None:
    """A Ctrl-C at the caller's terminal goes to its whole group, in which the transport must not be."""
    with started(place, call(place, "sh", "-c", "echo ready; exec sleep 1000")) as process:
        assert first_line(process) == b"ready\n"
        groups = {pid: os.getpgid(pid) for pid in descendants(process.pid)}
        assert [pid for pid, group in groups.items() if group == os.getpgid(process.pid)] == [process.pid]


def test_the_words_of_the_caller_are_no_options(place: Path) -> None:
    assert run(caller(transport(place, "echo", "-t", "--", "-e", ""))) == (0, b"-t -- -e \n", b"")
