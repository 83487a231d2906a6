"""What every backend shows of a running bottle from outside, whatever its agent writes to be seen."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Look
from claude_bottle.operations.launch import Launched
from claude_bottle.operations.observed import observed
from claude_bottle.operations.status import judge, lives, understand
from claude_bottle.state.paths import Home
from tests.support.bottles import World, shell_inside
from tests.support.processes import eventually

SESSIONS = "~/.claude/sessions"
# As Claude Code does: a file with its own number, and the time of its start by which that is told from another.
SPEAKER = """
import json, os, sys, time
from pathlib import Path
born = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
folder = Path.home() / ".claude/sessions"
folder.mkdir(mode=0o700, parents=True, exist_ok=True)
said = {"pid": os.getpid(), "procStart": born, **json.loads(sys.argv[1])}
(folder / f"{os.getpid()}.json").write_text(json.dumps(said))
print(os.getpid(), flush=True)
time.sleep(600)
"""


def look(launched: Launched) -> Look:
    backend = load_backend(launched.metadata.backend)
    found = dict(backend.look([launched.metadata.slug], launched.paths.root.parent))
    return found[launched.metadata.slug]


def status(launched: Launched) -> str:
    backend = load_backend(launched.metadata.backend)
    return judge(look(launched), backend.services, backend.services).status


@contextmanager
def speaker(launched: Launched, **said: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program inside that says this of itself; its file stays."""
    argv = launched.bottle.command(["/usr/bin/python3", "-c", SPEAKER, json.dumps(said)], tty=False)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip().isdigit()
            yield process
        finally:
            process.kill()


@pytest.fixture
def calm(shared: Launched) -> Launched:
    """A bottle in which nobody has said anything."""
    script = f"rm -rf {SESSIONS}; [ -d /opt/claude-bottle/sessions ] || exit 0; "
    script += (
        f"find /opt/claude-bottle/sessions -mindepth 1 -delete; ln -s /opt/claude-bottle/sessions {SESSIONS}"
    )
    done = shell_inside(shared.bottle, script)
    assert done.status == 0, done.stderr
    return shared


def test_a_bottle_that_nobody_works_in_is_idle(calm: Launched) -> None:
    found = look(calm)
    assert (found.ready, found.sessions) == (True, ())
    assert found.memory is not None
    assert 0 < found.memory < 1 << 30
    assert status(calm) == "idle"


def test_its_programs_are_known_by_the_numbers_they_have_inside(calm: Launched) -> None:
    with speaker(calm, status="idle"):
        found = look(calm)
        (session,) = [understand(file) for file in found.sessions]
        assert session is not None
        assert found.programs is not None
        assert lives(session, found.programs)
        mine = [program for program in found.programs if program.pid == session.pid]
        assert [program.started for program in mine] == [session.started]
        assert 1 in {program.pid for program in found.programs}


def test_memory_grows_with_what_its_programs_hold(calm: Launched) -> None:
    before = look(calm).memory
    code = "held = bytearray(60 << 20); print('held', flush=True); input()"
    argv = calm.bottle.command(["/usr/bin/python3", "-c", code], tty=False)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        after = look(calm).memory
        process.kill()
    assert before is not None
    assert after is not None
    assert after - before > 50 << 20


def test_what_a_program_says_is_shown_while_it_lives(calm: Launched) -> None:
    with speaker(calm, status="busy"):
        assert status(calm) == "working"
    eventually(lambda: status(calm) == "exited")
    with speaker(calm, status="waiting", waitingFor="permission prompt"):
        assert status(calm) == "waiting for input"
    assert eventually(lambda: status(calm) == "exited")


HOSTILE = {
    "links to the host's files": "for n in 1 2 3; do ln -s /etc/passwd $n.json; done",
    "links to itself": "ln -s 1.json 1.json; ln -s . 2.json",
    "pipes": "mkfifo 1.json 2.json",
    "folders": "mkdir 1.json 2.json",
    "a large file": "truncate -s 1T 1.json",
    "many files": "i=0; while [ $i -lt 3000 ]; do : > $i.json; i=$((i+1)); done",
    "deep words": """python3 -c 'print("[" * 16000)' > 1.json; python3 -c 'print("9" * 16000)' > 2.json""",
    "closed files": "echo x > 1.json; chmod 0 1.json; chmod 0 .",
    "odd names": "touch -- -1.json 'a b.json' \"$(printf '1\\n.json')\" \"$(printf '\\033]2;x\\007.json')\"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_it_writes_the_bottle_is_still_seen(calm: Launched, kind: str) -> None:
    script = f"mkdir -p {SESSIONS} && cd {SESSIONS}/ && {HOSTILE[kind]}"
    done = shell_inside(calm.bottle, script)
    assert done.status == 0, done.stderr
    found = look(calm)
    shell_inside(calm.bottle, f"chmod 700 {SESSIONS}")
    assert found.ready
    assert not any(b"root:" in file.content for file in found.sessions)
    assert len(found.sessions) <= 16


@pytest.mark.parametrize("target", ["/etc", "/", "/proc/1/root", "/opt", ".", "sessions", "/nonexistent"])
def test_a_link_in_place_of_its_folder_leads_nowhere(calm: Launched, target: str) -> None:
    assert (
        shell_inside(calm.bottle, f"mkdir -p ~/.claude; rm -rf {SESSIONS}; ln -s {target} {SESSIONS}").status
        == 0
    )
    assert look(calm).sessions == ()
    script = "mv ~/.claude ~/kept; ln -s {} ~/.claude; sync; true"
    assert shell_inside(calm.bottle, script.format(target)).status == 0
    assert look(calm).sessions == ()
    assert shell_inside(calm.bottle, "rm ~/.claude; mv ~/kept ~/.claude").status == 0


def test_only_what_was_asked_for_and_runs_is_seen(shared: Launched) -> None:
    backend, state = load_backend(shared.metadata.backend), shared.paths.root.parent
    assert dict(backend.look([], state)) == {}
    assert dict(backend.look(["nobody-00000"], state)) == {}
    assert dict(backend.look(["nobody-00000", shared.metadata.slug], state)).keys() == {shared.metadata.slug}


def test_a_bottle_that_has_ended_is_not_seen(world: World) -> None:
    with world.bottle() as launched:
        launched.bottle.stop()
        backend = load_backend(world.backend)
        assert dict(backend.look([launched.metadata.slug], world.home.state)) == {}


def test_a_row_has_all_that_is_known(calm: Launched) -> None:
    with speaker(calm, status="waiting", waitingFor="input needed", statusUpdatedAt=1795301883385):
        rows, warnings = observed(Home(Path(calm.paths.root.parent.parent)))
    (row,) = [found.as_dict() for found in rows]
    memory = row.pop("memory")
    assert isinstance(memory, int)
    assert (warnings, row) == (
        [],
        {
            "backend": calm.metadata.backend,
            "slug": calm.metadata.slug,
            "agent": "tester",
            "services": ("egress", "firewall", "supervise"),
            "started_at": calm.metadata.created,
            "bottle": "plain",
            "workspace": "clone",
            "origin": calm.metadata.origin,
            "branch": f"bottle/{calm.metadata.slug}",
            "status": "waiting for input",
            "waiting_for": "input needed",
            "since": 1795301883.385,
            "down": (),
            "approvals": 0,
        },
    )


def test_what_it_writes_there_goes_with_its_state(world: World) -> None:
    with world.bottle() as launched:
        script = f"mkdir -p {SESSIONS}/a/b/c; touch {SESSIONS}/a/b/c/d; chmod 0 {SESSIONS}/a"
        assert shell_inside(launched.bottle, script).status == 0
        root = launched.paths.root
    assert not os.path.lexists(root)
