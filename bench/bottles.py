"""Starting a bottle, entering it, what an idle one weighs; beside the same by bubblewrap or nsenter alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.children import UnmeasuredError, ended_after, stream_of, whole_process
from bench.figures import Figure, compared, in_turn, part
from bench.lab import Lab
from bench.memory import Weight, weigh
from bench.operator import Operator, Start
from claude_bottle.backend.bubblewrap.argv import Mount, bwrap_arguments
from claude_bottle.backend.bubblewrap.entry import read_facts
from claude_bottle.backend.bubblewrap.lock import lock_holder
from claude_bottle.backend.bubblewrap.plan import BubblewrapPlan
from claude_bottle.backend.bubblewrap.stage import STAGE
from claude_bottle.backend.linux import NS_GET_USERNS

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context

_ANCHOR = ("/bin/sh", "-c", "echo; exec cat")
_SETTLE = 1.5  # seconds after which nothing of a start is left


def start(lab: Lab) -> Iterator[Figure]:
    """The whole `start AGENT --detach --yes`, against bubblewrap alone, same mounts, running `true`."""
    starts: list[Start] = []

    def bottle() -> float:
        made = lab.operator.start()
        lab.operator.stop(made.slug)
        starts.append(made)
        return made.seconds * 1000

    bottle()
    bare = bare_bubblewrap(lab.operator, starts[0].slug, "true")
    pairs = in_turn(bottle, lambda: whole_process(bare) * 1000, rounds=10, seconds=25)
    yield compared("start.bubblewrap", "ms", pairs)
    measured = [dict(made.steps) for made in starts[-len(pairs) :]]
    for name in measured[0]:
        yield part(
            f"start.bubblewrap.{name}", "ms", [steps[name] * 1000 for steps in measured if name in steps]
        )


def execute(lab: Lab) -> Iterator[Figure]:
    """`exec SLUG -- true`, against nsenter running `true` in the same bottle."""
    with lab.operator.running() as slug, nsenter(lab.operator, slug) as inside:
        pairs = in_turn(
            lambda: lab.operator.seconds_of("exec", slug, "--", "true") * 1000,
            lambda: whole_process(inside) * 1000,
            rounds=20,
            seconds=10,
        )
    yield compared("exec.bubblewrap", "ms", pairs)


def framing(lab: Lab) -> Iterator[Figure]:
    """What `exec` becomes once it has found the bottle, against nsenter."""
    with lab.operator.running() as slug, nsenter(lab.operator, slug) as inside:
        framed = enter(lab.operator, slug)
        pairs = in_turn(
            lambda: whole_process(framed) * 1000, lambda: whole_process(inside) * 1000, rounds=20, seconds=10
        )
    yield compared("exec.bubblewrap.framing", "ms", pairs)


def idle(lab: Lab) -> Iterator[Figure]:
    """The memory that one idle, detached bottle adds (PSS), against bubblewrap alone holding `cat`."""
    weights: list[Weight] = []

    def bottle() -> float:
        with lab.operator.running() as slug:
            time.sleep(_SETTLE)
            weights.append(weigh(lock_holder(str(lab.operator.home.bottle(slug).run))))
        return weights[-1].total

    with lab.operator.running() as slug:
        bare = bare_bubblewrap(lab.operator, slug, *_ANCHOR)
    pairs = in_turn(bottle, lambda: bare_weight(bare), rounds=3, seconds=20)
    yield compared("memory.idle", "MB", pairs)
    for name in weights[0].parts:
        yield part(f"memory.idle.{name}", "MB", [weight.parts[name] for weight in weights[1:]])


def bare_weight(argv: list[str]) -> float:
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    with ended_after(process):
        if stream_of(process.stdout).read(1) != b"\n":
            raise UnmeasuredError("bubblewrap alone did not start")
        found = weigh(process.pid).total
        stream_of(process.stdin).close()
        process.wait(10)
    return found


def bare_bubblewrap(operator: Operator, slug: str, *argv: str) -> list[str]:
    """bubblewrap with the mounts of this bottle's own plan, straight from where they are.

    Nothing is staged, nothing limited or filtered, and it is the operator's own identity.
    """
    plan = plan_of(operator, slug)
    sources = {f"{STAGE}/{index}": grant.source for index, grant in enumerate(plan.request.grants)}
    mounts = tuple(_unstaged(mount, sources) for mount in plan.mounts)
    arguments = bwrap_arguments(mounts, "bottle", plan.request.environment)
    return [plan.bwrap, *arguments, *argv]


def _unstaged(mount: Mount, sources: dict[str, str]) -> Mount:
    return mount._replace(source=sources.get(mount.source, mount.source))


def plan_of(operator: Operator, slug: str) -> BubblewrapPlan:
    """The plan of a bottle that has been started, made once more from its state."""
    from claude_bottle.operations.prepare import prepare_again
    from claude_bottle.state import store

    plan = prepare_again(context_of(operator), store.load(operator.home, slug)).plan
    assert isinstance(plan, BubblewrapPlan)
    return plan


def enter(operator: Operator, slug: str) -> list[str]:
    from claude_bottle.backend.bubblewrap.backend import BubblewrapBackend
    from claude_bottle.state import store

    bottle = BubblewrapBackend().find(store.load(operator.home, slug), operator.home.bottle(slug))
    if bottle is None:
        raise UnmeasuredError(f"{slug} has ended")
    return bottle.command(["true"], tty=False)


def context_of(operator: Operator) -> Context:
    from claude_bottle.operations.context import Context
    from claude_bottle.proc import SystemRunner

    runner = SystemRunner(operator.environment)
    return Context(operator.home, runner, operator.environment, operator.repository)


@contextmanager
def nsenter(operator: Operator, slug: str) -> Iterator[list[str]]:
    """The command line that runs `true` in the bottle's namespaces.

    The user namespace to join is the one that owns the others; only a descriptor leads there, since no
    process lives in it.
    """
    program = shutil.which("nsenter")
    if program is None:
        raise UnmeasuredError("there is no nsenter to compare with")
    init = read_facts(str(operator.home.bottle(slug).run)).init
    mounts = os.open(f"/proc/{init}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(mounts, NS_GET_USERNS)
    os.close(mounts)
    kinds = [f"--{name}" for name in ("mount", "uts", "ipc", "net", "pid", "cgroup")]
    try:
        user = f"--user=/proc/{os.getpid()}/fd/{owner}"
        yield [program, "--target", str(init), user, *kinds, "--preserve-credentials", "true"]
    finally:
        os.close(owner)
