"""Tries bubblewrap for real, for `doctor`: a throw-away sandbox with every namespace that a bottle needs."""

from __future__ import annotations

from claude_bottle.backend.base import Readiness
from claude_bottle.backend.bubblewrap.cgroups import plan_limits
from claude_bottle.backend.bubblewrap.host import SYMLINKS_FIXED, explain_failure, judge, observe
from claude_bottle.manifest.model import Limits
from claude_bottle.proc import Command, Runner

_TRIAL = (
    "--unshare-all",
    "--disable-userns",
    "--unshare-user",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/",
    "/",
    "true",
)


def try_bubblewrap(runner: Runner) -> Readiness:
    facts = observe(runner)
    readiness = judge(facts)
    if not readiness.ok or facts.bwrap is None:
        return readiness
    done = runner.run(Command((facts.bwrap, *_TRIAL), timeout=20))
    if done.status != 0:
        return Readiness(
            False, f"bubblewrap does not start here: {done.complaint}", explain_failure(done.complaint)
        )
    symlinks = (
        "fixed" if facts.version >= SYMLINKS_FIXED else "not fixed in this version; mount points are checked"
    )
    limits = plan_limits(Limits(memory=1 << 30, cpus=1, pids=100), "trial", facts.cgroup_parents)
    return Readiness(
        True,
        facts=(
            *readiness.facts,
            ("CVE-2026-87766", symlinks),
            ("namespaces", "user, pid, mount, net, ipc, uts, cgroup: all can be had"),
            ("limits", "; ".join(limits.shown)),
            (
                "runs bottles as",
                "a host identity of their own" if facts.root else "the operator's own host identity",
            ),
        ),
    )
