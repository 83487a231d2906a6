"""A disk that is full or read-only: said, undone, and nothing that was there is lost.

The home lies on a small file system of its own, in a mount namespace of the test's own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, write

pytestmark = [pytest.mark.backends("bubblewrap"), pytest.mark.needs("envoy", "claude", "root")]


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """With the backend whose processes all live where the command was started."""
    cli.more["CLAUDE_BOTTLE_BACKEND"] = "bubblewrap"
    return cli


@contextmanager
def mounted(cli: Cli, script: str) -> Iterator[None]:
    """Every command of `cli` runs where `script`, which mounts something at $1, was run before.

    The namespace is kept by a descriptor of ours and by no process, which would look like one left behind.
    """
    # As a slave: what this host unmounts, other tests' volumes among it, must not stay mounted here.
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-ec",
        f"{script}\necho ready\nexec cat",
        "sh",
        str(cli.home),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stderr is not None
        assert holder.stdout.readline() == b"ready\n", holder.stderr.read()
        kept = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        holder.communicate()
    command = cli.command
    cli.command = ("nsenter", f"--mount=/proc/{os.getpid()}/fd/{kept}", f"--wd={cli.project}", "--", *command)
    try:
        yield
    finally:
        cli.command = command
        os.close(kept)


def shell(cli: Cli, script: str) -> str:
    """Runs in the same place as the commands do."""
    at = cli.command.index("--") + 1
    argv = [*cli.command[:at], "sh", "-ec", script, "sh", str(cli.home)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def on_a_tmpfs(options: str) -> str:
    """The home's manifest on a tmpfs in place of the home."""
    return f'cp -a "$1" "$1.old" && mount -t tmpfs -o {options} tmpfs "$1" && cp -a "$1.old/." "$1/"'


def start_fails(cli: Cli) -> None:
    """One error that names the cause; whatever was made before it is gone, and the home as it was."""
    done = cli("start", cli.agent, "--detach", "--yes").failed(1, "No space left on device")
    assert done.talk.count("claude-bottle: ") == 1, done.everything
    assert "the operating system refused" not in done.talk, "it says where there is no room"
    assert shell(cli, 'ls -A "$1/state" 2>/dev/null || true') == ""
    assert (cli.slugs(), cli.preserved()) == ([], [])


# No room for the state's first files, one after the other; for git's on the host; for the bottle's home,
# the keeper's, and git's inside.
FILES = [8, 9, 10, 11, 24, 33, 60, 66]
KIBIBYTES = [8, 24, 160]


@pytest.mark.parametrize("room", [*(f"nr_inodes={n}" for n in FILES), *(f"size={n}k" for n in KIBIBYTES)])
def test_a_start_on_a_full_disk_says_so_and_leaves_nothing(cli: Cli, idle: ScriptedModel, room: str) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with mounted(cli, on_a_tmpfs(room)):
        start_fails(cli)
        cli.assert_nothing_is_left()


@pytest.mark.parametrize("mode", ["clone", "copy"])
def test_a_repository_larger_than_the_disk(cli: Cli, idle: ScriptedModel, mode: str) -> None:
    folder = cli.repository()
    (folder / "big").write_bytes(os.urandom(3 << 20))
    cli.git("add", "big")
    cli.git("commit", "-qm", "Big")
    cli.manifest(idle.url, bottle=f"workspace: {mode}\n")
    with mounted(cli, on_a_tmpfs("size=2m")):
        start_fails(cli)
        cli.assert_nothing_is_left()
        shell(cli, 'mount -o remount,size=20m "$1"')
        cli("stop", cli.start()).ok()


def fill(cli: Cli) -> None:
    shell(cli, 'dd if=/dev/zero of="$1/filler" bs=64k 2>/dev/null || true')


def test_a_disk_that_fills_up_neither_keeps_a_bottle_running_nor_loses_its_work(
    cli: Cli, idle: ScriptedModel
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with mounted(cli, on_a_tmpfs("size=20m")):
        slug = cli.start()
        work = (
            "echo '# mine' >> adder.py; head -c 3000000 /dev/urandom > big; git add -A; git commit -qm Mine"
        )
        cli.inside(slug, work).ok()
        fill(cli)
        stopped = cli("stop", slug)
        assert (stopped.status, "Traceback" in stopped.talk) == (1, False), stopped.everything
        assert "the work was not handed over" in stopped.talk
        assert "No space left on device" in stopped.talk
        assert (cli.slugs(), cli.preserved()) == ([], [slug])
        cli.assert_nothing_is_left()
        shell(cli, 'rm "$1/filler"')
        cli("pull", slug).ok()
        assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"


def test_what_cannot_be_recorded_does_not_go_out(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    ask = "curl -s -o /dev/null -w '%{http_code}\\n' -d '{}' https://api.anthropic.com/v1/messages"
    with mounted(cli, on_a_tmpfs("size=20m")):
        slug = cli.start()
        assert cli.inside(slug, ask).text == "200\n"
        fill(cli)  # but for what is left of the log's last page: some more of them are recorded
        answers = cli.inside(slug, f"for i in $(seq 12); do {ask}; done; true").text.split()
        assert len(answers) == 12
        assert answers[-1] != "200"
        lines = [json.loads(line) for line in cli("logs", slug, "--json").ok().text.splitlines()]
        recorded = [line for line in lines if line["event"] == "request" and line["verdict"] == "allow"]
        assert answers.count("200") < len(idle.requests) <= len(recorded)
        cli("stop", slug)


def test_a_home_that_is_read_only_can_be_looked_at(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    slug = cli.start()
    cli("stop", slug).ok()
    with mounted(cli, 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'):
        for command in (
            ["list"],
            ["list", "preserved"],
            ["list", "agents"],
            ["info", cli.agent],
            ["logs", slug],
        ):
            cli(*command).ok()
        cli("start", cli.agent, "--detach", "--yes").failed(1, "Read-only file system")
        cli("stop", slug).failed(1, "Read-only file system")
    cli.assert_nothing_is_left()


def test_a_home_that_is_not_there_and_cannot_be_made(cli: Cli) -> None:
    cli.repository()
    write(cli.home / "keep", "")
    with mounted(cli, 'rm "$1/keep"; mount -t tmpfs -o ro tmpfs "$1"'):
        env = {"CLAUDE_BOTTLE_HOME": str(cli.home / "new")}
        assert cli("list", env=env).ok().out == b""
        cli("init", env=env).failed(1, "Read-only file system", "CLAUDE_BOTTLE_HOME")
