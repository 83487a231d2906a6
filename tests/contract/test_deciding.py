"""A decision on every backend: in force, told, in the log; and settled where its process was killed."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from claude_bottle.operations.proposals import listing
from claude_bottle.state import audit
from claude_bottle.state.audit_check import verify
from tests.support.bottles import World
from tests.support.proposing import ROOT, asking, proposal, wants

_APPROVER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from claude_bottle.operations.context import Context
from claude_bottle.operations.proposals import Terms, approve, find
from claude_bottle.proc import SystemRunner
from claude_bottle.state.paths import Home

def step(name):
    if name == sys.argv[4]:
        os.kill(os.getpid(), signal.SIGKILL)

context = Context(Home(Path(sys.argv[2])), SystemRunner(dict(os.environ)), dict(os.environ), Path(sys.argv[2]))
approve(context, find(context, sys.argv[3]), Terms(), step=step)
"""


@pytest.mark.needs("envoy", "claude")
def test_a_decision_is_in_force_told_and_in_the_log(world: World) -> None:
    hosts = [f"h{number}.example.org" for number in range(5)]
    with asking(
        world, [proposal(at, wants(host, inspect=at % 2 == 0)) for at, host in enumerate(hosts)]
    ) as found:
        page = found.cli("proposals")
        assert [line.split("\t")[0] for line in page.out.splitlines()] == [
            f"p-{at:04x}abcdef" for at in range(5)
        ]
        assert found.cli("proposals", "show", "p-0000abcdef").status == 0
        assert found.cli("proposals", "approve", "p-0000abcdef", "--for", "1h").status == 0
        assert found.cli("proposals", "reject", "p-0001abcdef", "--reason", "no").status == 0
        second = found.cli("proposals", "approve", "p-0001abcdef")
        assert (second.status, "was rejected already" in second.talk) == (1, True)
        for ident, step in (("p-0002abcdef", "audited"), ("p-0003abcdef", "changed")):
            argv = [sys.executable, "-c", _APPROVER, str(ROOT), str(world.home.root), ident, step]
            killed = subprocess.run(argv, env=found.environment, check=False)
            assert killed.returncode == -signal.SIGKILL
        listing(world.context, seconds=20.0)
        states = [item.state for item in found.seen.queue.proposals]
        assert states == ["approved", "rejected", "pending", "approved", "pending"]
        allowed = {item.route.host for item in found.seen.live.routes}
        assert allowed & set(hosts) == {hosts[0], hosts[3]}
        outcomes = [line["state"] for line in audit.read(world.home) if line["kind"] == "outcome"]
        assert sorted(outcomes) == ["applied", "applied", "applied", "void"]
        assert found.cli("stop", found.slug).status == 0
        assert [line["kind"] for line in audit.read(world.home)][-2:] == ["stop", "undecided"]
        assert verify(world.home).faults == ()
