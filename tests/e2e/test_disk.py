"""A disk that is full or read-only: said, undone, and nothing that was there is lost.

The home lies on a small file system of its own, in a mount namespace of the test's own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, write

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude", "root")


@contextmanager
def mounted(cli: Cli, script: str) -> Iterator[None]:
    """Every command of `cli` runs where `script`, which mounts something at $1, was run before.

    The namespace is kept by a descriptor of ours and by no process, which would look like one left behind.
    """
    argv = ["unshare", "--mount", "sh", "-ec", f"{script}\necho ready\nexec cat", "sh", str(cli.home)]
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


@pytest.mark.parametrize(
    "options",
    [
        "size=20k",
        "size=60k",
        "size=100k",
        "size=160k",
        "nr_inodes=14",
        "nr_inodes=24",
        "nr_inodes=34",
        "nr_inodes=44",
    ],
)
def test_a_start_on_a_full_disk_fails_cleanly_or_not_at_all(
    cli: Cli, idle: ScriptedModel, options: str
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with mounted(cli, on_a_tmpfs(options)):
        done = cli("start", cli.agent, "--detach", "--yes")
        if done.status == 0:
            slug = done.text.strip()
            cli("exec", slug, "--", "true").ok()
            stopped = cli("stop", slug)
            assert "Traceback" not in stopped.talk
        else:
            done.failed(1, "No space left on device")
            assert cli.preserved() == []
        assert cli.slugs() == []
        cli.assert_nothing_is_left()


def test_a_disk_that_fills_up_neither_keeps_a_bottle_running_nor_loses_its_work(
    cli: Cli, idle: ScriptedModel
) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with mounted(cli, on_a_tmpfs("size=20m")):
        slug = cli.start()
        cli.inside(
            slug,
            "echo '# mine' >> adder.py; head -c 3000000 /dev/urandom > big; git add -A; git commit -qm Mine",
        ).ok()
        shell(cli, 'dd if=/dev/zero of="$1/filler" bs=64k 2>/dev/null || true')
        denied = cli.inside(
            slug, "curl -s -o /dev/null -w '%{http_connect}' https://denied.example.org || true"
        )
        assert denied.text in ("403", "503", "000")  # what cannot be recorded does not happen
        stopped = cli("stop", slug)
        assert (stopped.status, "Traceback" in stopped.talk) == (1, False), stopped.everything
        assert "the work was not handed over" in stopped.talk
        assert "No space left on device" in stopped.talk
        assert (cli.slugs(), cli.preserved()) == ([], [slug])
        cli.assert_nothing_is_left()
        shell(cli, 'rm "$1/filler"')
        cli("pull", slug).ok()
        assert cli.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"


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
