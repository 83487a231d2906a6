"""What every backend does, whichever it is: the tests speak only of bottles."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from claude_bottle.backend import enumerate_active_agents, load_backend
from claude_bottle.backend.base import NODE_HOME, WORKSPACE, Bottle
from claude_bottle.errors import BottleError
from claude_bottle.operations.launch import Launched, launch
from claude_bottle.state import store
from tests.support.bottles import KEY, MARKER, World, no_progress, nobody_asks, python_inside, shell_inside
from tests.support.keepers import groups_of
from tests.support.processes import eventually, running_with

ROOT = Path(__file__).parents[2]


def said(launched: Launched, *argv: str) -> str:
    done = launched.bottle.exec(list(argv))
    assert done.status == 0, done.stderr
    return done.text.strip()


# A launch


def test_a_launch_is_proved_from_inside(shared: Launched) -> None:
    assert len(shared.proof) >= 7
    assert [check.name for check in shared.proof if not check.ok] == []


def test_the_workspace_is_the_repository_on_a_branch_of_its_own(shared: Launched) -> None:
    assert said(shared, "git", "branch", "--show-current") == f"bottle/{shared.metadata.slug}"
    assert said(shared, "git", "status", "--porcelain") == ""
    assert said(shared, "cat", "README") == "a small repository"
    assert said(shared, "git", "rev-parse", "HEAD") == shared.metadata.base


def test_a_launch_that_cannot_be_proved_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from claude_bottle.operations import launch as launching

    def fails(*_: object) -> None:
        raise BottleError("the bottle does not hold")

    monkeypatch.setattr(launching, "prove", fails)
    prepared = world.prepare()
    with pytest.raises(BottleError, match="does not hold"):
        launch(world.context, prepared, no_progress, nobody_asks)
    assert store.read_all(world.home) == []
    assert eventually(lambda: not running_with(prepared.metadata.slug))


def test_a_launch_that_fails_in_the_middle_leaves_nothing(world: World) -> None:
    world.declare({}, skills=["no-such-skill"])
    prepared = world.prepare()
    with pytest.raises(BottleError, match="no-such-skill"):
        launch(world.context, prepared, no_progress, nobody_asks)
    assert store.read_all(world.home) == []
    assert eventually(lambda: not running_with(prepared.metadata.slug))


# Running a program inside


def test_programs_run_as_an_ordinary_user_in_the_workspace(shared: Launched) -> None:
    assert said(shared, "id", "-un") == "node"
    assert said(shared, "id", "-u") == "1000"
    assert said(shared, "pwd") == WORKSPACE
    assert said(shared, "sh", "-c", "echo $HOME") == NODE_HOME
    assert said(shared, "sh", "-c", "cd ~ && pwd") == NODE_HOME


def test_another_folder_can_be_the_working_directory(shared: Launched) -> None:
    assert shared.bottle.exec(["pwd"], directory="/tmp").text == "/tmp\n"
    assert shared.bottle.exec(["pwd"], directory="/nonexistent").status != 0


@pytest.mark.parametrize("status", [0, 1, 2, 42, 255])
def test_the_exit_status_is_the_programs_own(shared: Launched, status: int) -> None:
    assert shared.bottle.exec(["sh", "-c", f"exit {status}"]).status == status


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["no-such-program"], 127),
        (["/etc/passwd"], 126),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["sh", "-c", "kill -KILL $$"], 137),
    ],
)
def test_other_ends_have_the_usual_status(shared: Launched, argv: list[str], status: int) -> None:
    assert shared.bottle.exec(argv).status == status


def test_arguments_arrive_as_they_are(shared: Launched) -> None:
    arguments = ["", " ", "a b", "--", "-t", "$(id)", "`id`", "*", "'\"\\", "\n", "é", "\x01"]
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = shared.bottle.exec(["/usr/bin/python3", "-c", code, *arguments])
    assert json.loads(done.stdout) == arguments


def test_the_outputs_are_kept_apart(shared: Launched) -> None:
    done = shared.bottle.exec(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_standard_input_arrives_and_ends(shared: Launched) -> None:
    data = bytes(range(256)) * 100
    assert shared.bottle.exec(["cat"], stdin=data).stdout == data
    assert shared.bottle.exec(["cat"]).stdout == b""


def test_input_that_nobody_reads_holds_nothing_up(shared: Launched) -> None:
    done = shared.bottle.exec(["sh", "-c", "echo done"], stdin=b"x" * (4 << 20))
    assert (done.status, done.stdout) == (0, b"done\n")


def test_much_data_passes_unchanged_both_ways(shared: Launched) -> None:
    data = os.urandom(10 << 20)
    digest = hashlib.sha256(data).hexdigest()
    back = shared.bottle.exec(["sh", "-c", "tee /tmp/much"], stdin=data).stdout
    assert hashlib.sha256(back).hexdigest() == digest
    assert said(shared, "sha256sum", "/tmp/much").split()[0] == digest


def test_a_background_program_does_not_hold_the_caller_up(shared: Launched) -> None:
    done = shared.bottle.exec(["sh", "-c", "sleep 300 & echo started"], timeout=20)
    assert (done.status, done.stdout) == (0, b"started\n")


def sleeping(bottle: Bottle, seconds: str) -> bytes:
    """The processes inside that were told to sleep for so long; written so that it does not find itself."""
    return bottle.exec(["sh", "-c", f"grep -lsa '{seconds}' /proc/[0-9]*/cmdline"]).stdout


def test_what_takes_too_long_is_ended_inside_as_well(shared: Launched) -> None:
    with pytest.raises(BottleError, match="did not end"):
        shared.bottle.exec(["sh", "-c", "exec sleep 4321"], timeout=1)
    assert eventually(lambda: sleeping(shared.bottle, "[4]321") == b"")


def test_what_says_too_much_is_ended(shared: Launched) -> None:
    with pytest.raises(BottleError, match="said more than"):
        shared.bottle.exec(["yes"], limit=1 << 20)


def test_the_callers_environment_stays_outside(shared: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLERS_SECRET", "in-the-environment")
    monkeypatch.setenv("LD_PRELOAD", "")
    inside = said(shared, "env")
    for value in ("in-the-environment", "CALLERS_SECRET", "LD_PRELOAD", KEY, MARKER):
        assert value not in inside
    assert "ANTHROPIC_API_KEY=placeholder" in inside


def test_a_signal_to_the_caller_reaches_the_program(shared: Launched) -> None:
    script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    argv = shared.bottle.command(["sh", "-c", script], tty=False)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(30) == 9


def test_a_killed_caller_takes_its_program_along(shared: Launched) -> None:
    argv = shared.bottle.command(["sh", "-c", "echo ready; exec sleep 5432"], tty=False)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert eventually(lambda: sleeping(shared.bottle, "[5]432") != b"")
        process.kill()
        process.wait()
    assert eventually(lambda: sleeping(shared.bottle, "[5]432") == b"")


def test_claude_code_itself_runs_inside(shared: Launched) -> None:
    argv = shared.bottle.claude_argv(["--version"], tty=False)
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    assert "Claude Code" in done.stdout


# Files


def test_files_are_copied_in_and_out(shared: Launched) -> None:
    data = os.urandom(300_000)
    for target in ("/tmp/copied", f"{NODE_HOME}/new/folders/copied", "relative-name", "./-odd name"):
        shared.bottle.copy_in(data, target)
        assert shared.bottle.copy_out(target) == data
    assert said(shared, "stat", "-c", "%U", "relative-name") == "node"


def test_what_cannot_be_copied_is_an_error(shared: Launched) -> None:
    with pytest.raises(BottleError, match="cannot write"):
        shared.bottle.copy_in(b"x", "/usr/bin/evil")
    with pytest.raises(BottleError, match="cannot read"):
        shared.bottle.copy_out("/nonexistent")


# Found again


FIND = """
import sys
from pathlib import Path
from claude_bottle.backend import load_backend
from claude_bottle.state import store
from claude_bottle.state.paths import Home
home = Home(Path(sys.argv[1]))
metadata = store.load(home, sys.argv[2])
bottle = load_backend(metadata.backend).find(metadata, home.bottle(metadata.slug))
if bottle is None:
    sys.exit("not found")
sys.stdout.buffer.write(bottle.exec(sys.argv[3:]).stdout)
"""


def from_another_process(root: Path, slug: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Any process can find a bottle by slug, from durable state alone."""
    command = [sys.executable, "-c", FIND, str(root), slug, *argv]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_another_process_finds_it_by_its_slug(shared: Launched) -> None:
    root = shared.paths.root.parent.parent
    done = from_another_process(root, shared.metadata.slug, "hostname")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == said(shared, "hostname")


def test_it_is_listed_with_its_services(shared: Launched) -> None:
    state = shared.paths.root.parent
    (row,) = [row for row in enumerate_active_agents(state) if row.slug == shared.metadata.slug]
    assert (row.backend_name, row.agent_name, row.warning) == (shared.metadata.backend, "tester", "")
    assert row.services == ("egress", "firewall", "supervise")
    assert row.started_at == shared.metadata.created


def test_a_bottle_that_never_was_is_not_found(world: World) -> None:
    slug = store.create(world.home, "tester")
    never = world.prepare().metadata._replace(slug=slug)
    assert load_backend(world.backend).find(never, world.home.bottle(slug)) is None
    assert enumerate_active_agents(world.home.state) == []


# Life and death


LAUNCH = """
import json, os, select, sys
from pathlib import Path
from tests.support.bottles import World, no_progress, nobody_asks
from claude_bottle.operations.context import Context
from claude_bottle.operations import launch as launching
from claude_bottle.proc import SystemRunner
from claude_bottle.state.paths import Home
folder, backend, environment, hang = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4] == "hang"
context = Context(Home(folder / "home"), SystemRunner(environment), environment, folder / "repository")
world = World(folder, context, backend)
if hang:
    def never(bottle, *_):
        print(bottle.slug, flush=True)
        # A signal that comes just before a wait without end is not noticed in it.
        while not select.select([sys.stdin], [], [], 0.1)[0]:
            pass
    launching.prove = never
prepared = world.prepare()
launched = launching.launch(context, prepared, no_progress, nobody_asks)
print(launched.metadata.slug, flush=True)
"""


def launching_process(world: World, how: str) -> subprocess.Popen[str]:
    environment = json.dumps(dict(world.context.environment))
    command = [sys.executable, "-c", LAUNCH, str(world.folder), world.backend, environment, how]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_kept_bottle_outlives_the_process_that_launched_it(world: World) -> None:
    with launching_process(world, "keep") as process:
        slug = process.communicate(timeout=60)[0].strip()
        assert process.returncode == 0
    metadata = store.load(world.home, slug)
    bottle = load_backend(world.backend).find(metadata, world.home.bottle(slug))
    assert bottle is not None
    try:
        assert bottle.exec(["echo", "alive"]).text == "alive\n"
        assert from_another_process(world.home.root, slug, "echo", "again").stdout == "again\n"
    finally:
        bottle.stop()
    assert from_another_process(world.home.root, slug, "true").returncode != 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_bottle_that_was_not_kept_dies_with_its_launcher(world: World, number: signal.Signals) -> None:
    with launching_process(world, "hang") as process:
        assert process.stdout is not None
        slug = process.stdout.readline().strip()
        assert is_there(world, slug)
        process.send_signal(number)
        process.wait(30)
    assert eventually(lambda: not running_with(slug)), running_with(slug)
    assert eventually(lambda: not groups_of(slug))
    assert eventually(lambda: not is_there(world, slug))


def is_there(world: World, slug: str) -> bool:
    metadata = store.read(world.home, slug)
    if isinstance(metadata, store.Broken):
        return False
    return load_backend(world.backend).find(metadata, world.home.bottle(slug)) is not None


def test_stopping_ends_everything_and_can_be_done_twice(world: World) -> None:
    launched = world.launch()
    slug, backend = launched.metadata.slug, load_backend(world.backend)
    shell_inside(launched.bottle, "setsid sleep 6543 </dev/null >/dev/null 2>&1 &")
    launched.bottle.stop()
    assert eventually(lambda: not running_with(slug)), running_with(slug)
    launched.bottle.stop()
    assert backend.find(launched.metadata, launched.paths) is None
    assert enumerate_active_agents(world.home.state) == []
    with pytest.raises(BottleError):
        launched.bottle.copy_in(b"x", "/tmp/x")
    assert launched.paths.metadata.exists(), "the state stays"
    backend.discard(launched.metadata, launched.paths)
    store.remove(launched.paths)
    assert not launched.paths.root.exists()


def test_bottles_do_not_see_each_other(world: World) -> None:
    with world.bottle() as first, world.bottle() as second:
        assert first.metadata.slug != second.metadata.slug
        shell_inside(first.bottle, "echo mine > ~/mine; echo mine > /tmp/mine; echo mine > /dev/shm/mine")
        shell_inside(first.bottle, "setsid sleep 7654 </dev/null >/dev/null 2>&1 &")
        listen = "import socket, time; s = socket.create_server(('127.0.0.1', 8765)); time.sleep(300)"
        shell_inside(first.bottle, 'setsid python3 -c "$1" </dev/null >/dev/null 2>&1 &', listen)
        reach = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).close()"
        assert eventually(lambda: python_inside(first.bottle, reach, "8765").status == 0)
        assert python_inside(second.bottle, reach, "8765").status != 0
        assert python_inside(second.bottle, reach, "9099").status == 0, "its own gate"
        for path in ("~/mine", "/tmp/mine", "/dev/shm/mine"):
            assert shell_inside(second.bottle, f"cat {path}").status != 0
        assert sleeping(second.bottle, "[7]654") == b""
        active = {row.slug for row in enumerate_active_agents(world.home.state)}
        assert active == {first.metadata.slug, second.metadata.slug}
        first.bottle.stop()
        assert second.bottle.exec(["true"]).status == 0
        assert [row.slug for row in enumerate_active_agents(world.home.state)] == [second.metadata.slug]


def test_each_decision_stands_in_the_log_of_its_own_bottle(world: World) -> None:
    with world.bottle() as first, world.bottle() as second:
        ask = "curl -sS --max-time 10 https://denied.example.org/"
        assert shell_inside(first.bottle, ask).status != 0
        of_first, of_second = (launched.paths.decisions.read_text() for launched in (first, second))
    assert "denied.example.org" in of_first
    assert "denied.example.org" not in of_second
