"""Twenty commands of different processes at once: starts, stops, lists, attaches; each does what it says."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from claude_bottle.backend.terminal import set_size
from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import PATIENCE, Cli, Done

pytestmark = pytest.mark.needs("envoy", "claude")

DETACH = b"\x1c"
READY = b"permissions"  # of what Claude Code shows when it takes a prompt


def attach_and_leave(cli: Cli, slug: str) -> Done:
    """On a terminal of its own: until Claude Code is there, then the key that detaches."""
    master, slave = os.openpty()
    set_size(slave, 30, 100)
    environment = {**cli.env, "TERM": "xterm-256color"}
    with subprocess.Popen(
        [*cli.command, "attach", slug],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=cli.project,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(slave)
        seen, left, deadline = b"", False, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                seen += os.read(master, 65536)
            except OSError:  # the last who had it open has gone
                break
            if READY in seen and not left:
                left = os.write(master, DETACH) > 0
        process.kill()
    os.close(master)
    return Done(process.returncode, seen, b"")


def test_twenty_at_once(cli: Cli, idle: ScriptedModel) -> None:
    cli.repository()
    cli.manifest(idle.url)
    with ThreadPoolExecutor(20) as pool:
        kept, *ended = pool.map(lambda _: cli.start(), range(4))
        begin: Callable[[], Done] = partial(cli, "start", cli.agent, "--detach", "--yes")
        look: Callable[[], Done] = partial(cli, "list")
        stops = [partial(cli, "stop", slug) for slug in (*ended, ended[0], ended[1])]
        attaches = [partial(attach_and_leave, cli, kept)] * 5
        commands = [
            each for four in zip([begin] * 5, stops, [look] * 5, attaches, strict=True) for each in four
        ]
        done = list(pool.map(lambda command: command(), commands))
    for each in done:
        assert each.status == 0, each.everything
        assert b"Traceback" not in each.out + each.err
    begun = [each.text.strip() for each in done[0::4]]
    every = {kept, *ended, *begun}
    assert len(every) == 4 + 5
    for each in done[2::4]:
        assert {row[1] for row in each.rows} <= every
    assert all(b"detached" in each.out for each in done[3::4])
    assert sorted(cli.slugs()) == sorted([kept, *begun])
    assert sorted(cli.preserved()) == sorted(ended)
    cli("stop", "--all").ok()
    assert sorted(cli.preserved()) == sorted(every)
    cli.assert_nothing_is_left()
