"""Limits hold for the whole bottle, and what they stop stays inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap.plan import BubblewrapPlan
from claude_bottle.operations.launch import Launched, launch
from tests.support.bottles import World, no_progress, nobody_asks, python_inside

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")

FORK_BOMB = """
import os, time
children, refused = [], 0
while refused < 200 and len(children) < 500:
    try:
        child = os.fork()
    except OSError:
        refused += 1
        continue
    if child == 0:
        time.sleep(600)
        os._exit(0)
    children.append(child)
print(len(children), refused)
for child in children:
    os.kill(child, 9)
"""


def limited(world: World, **limits: object) -> tuple[Launched, BubblewrapPlan]:
    world.declare({"limits": limits})
    prepared = world.prepare()
    assert isinstance(prepared.plan, BubblewrapPlan)
    return launch(world.context, prepared, no_progress, nobody_asks), prepared.plan


def test_a_fork_bomb_is_contained(world: World) -> None:
    launched, plan = limited(world, pids=64)
    try:
        done = python_inside(launched.bottle, FORK_BOMB)
        made, refused = map(int, done.text.split())
        assert refused == 200
        assert made < 64 if plan.limits.groups else made < 500
        assert launched.bottle.exec(["true"]).status == 0, "the operator still gets in"
        assert launched.bottle.exec(["sh", "-c", "ls / | wc -l"]).status == 0, "and what was killed is gone"
    finally:
        launched.bottle.stop()


def test_the_operator_gets_in_while_the_bottle_is_full(world: World) -> None:
    launched, plan = limited(world, pids=64)
    if not plan.limits.groups:
        pytest.skip("no group of the kernel can be had here")
    full = "import os, time\ntry:\n    while True:\n        if os.fork() == 0:\n            time.sleep(600)\nexcept OSError:\n    print('full', flush=True)\n    time.sleep(600)"
    import subprocess

    argv = launched.bottle.command(["/usr/bin/python3", "-c", full], tty=False)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"full\n"
            assert launched.bottle.exec(["echo", "in"]).text == "in\n"
        finally:
            process.kill()
            launched.bottle.stop()


def test_memory_has_an_end(world: World) -> None:
    launched, plan = limited(world, memory="128M")
    try:
        done = python_inside(launched.bottle, "x = bytearray(512 << 20); print('all of it')")
        assert done.status != 0
        assert b"all of it" not in done.stdout
        if any("memory" in path for path, _ in plan.limits.writes):
            several = "import os\nfor _ in range(6):\n    if os.fork() == 0:\n        x = bytearray(60 << 20)\n        os._exit(0)\nprint([os.wait()[1] for _ in range(6)].count(0))"
            assert launched.bottle.exec(["true"]).status == 0
            python_inside(launched.bottle, several)
            (group,) = {path.rpartition("/")[0] for path, _ in plan.limits.writes if "memory" in path}
            used = Path(group, "memory.max_usage_in_bytes")
            if used.exists():
                assert int(used.read_text()) <= 128 << 20
    finally:
        launched.bottle.stop()


def test_a_file_has_an_end(world: World) -> None:
    launched, _ = limited(world, disk="1M")
    try:
        done = launched.bottle.exec(["dd", "if=/dev/zero", "of=/tmp/big", "bs=64k", "count=100"])
        assert done.status != 0
        assert int(launched.bottle.exec(["stat", "-c", "%s", "/tmp/big"]).text) <= 1 << 20
    finally:
        launched.bottle.stop()


def test_nothing_dumps_core(world: World) -> None:
    launched, _ = limited(world)
    try:
        assert launched.bottle.exec(["sh", "-c", "ulimit -Hc"]).text == "0\n"
    finally:
        launched.bottle.stop()
