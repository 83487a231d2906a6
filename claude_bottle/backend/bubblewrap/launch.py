"""Carries a plan out: prepares the state folder, starts the keeper, and waits until it says "ready".

Invariant: when `launch` raises, no process, group or mount of this bottle is left.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from claude_bottle.backend.base import (
    GATE_PORT,
    SUPERVISE_PORT,
    BottleRequest,
    BundlePlan,
    EnvoyFiles,
    Grant,
    MakeBundle,
    Progress,
    Secrets,
)
from claude_bottle.backend.bubblewrap import cgroups, entry
from claude_bottle.backend.bubblewrap.argv import bwrap_arguments
from claude_bottle.backend.bubblewrap.early import envoy_argv
from claude_bottle.backend.bubblewrap.host import explain_failure
from claude_bottle.backend.bubblewrap.keeper_process import KeeperProcess
from claude_bottle.backend.bubblewrap.lock import CONTROL, ENTRY, lock_holder
from claude_bottle.backend.bubblewrap.plan import ENVOY_AUTHORITIES, BubblewrapPlan
from claude_bottle.backend.bubblewrap.stage import to_json
from claude_bottle.backend.seccomp import compile_filter
from claude_bottle.errors import BackendMissingError, BottleError
from claude_bottle.sidecars.bundle_spec import BundleSpec, spec_to_json
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.sidecars.services import SERVICES_FILE, SUPERVISE
from claude_bottle.state.trees import give_trees, remove_trees

LOG = "bundle.log"
SOCKETS = "egress"  # below the run directory: the bundle's working directory
_ETC = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\nnode:x:1000:1000:node:/home/node:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnode:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "resolv.conf": "# A bottle resolves no names: the egress gate does that outside.\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def start(
    keeper: KeeperProcess,
    plan: BubblewrapPlan,
    secrets: Secrets,
    envoy: EnvoyFiles,
    bundle: MakeBundle,
    progress: Progress,
) -> None:
    """Starts what the plan says. Raises BottleError; then nothing is left running."""
    if lock_holder(str(plan.request.paths.run)):
        keeper.abandon()
        raise BottleError(f"{plan.request.slug} runs already")
    try:
        _start(keeper, plan, secrets, envoy, bundle, progress)
    except BaseException as error:
        keeper.abandon()
        cgroups.remove(plan.limits.groups)
        if isinstance(error, BottleError) and "bubblewrap" in error.message:
            said = _last_line(plan.request.paths.logs / LOG)
            raise BackendMissingError(f"{error.message}: {said}", explain_failure(said)) from error
        raise


def _start(
    keeper: KeeperProcess,
    plan: BubblewrapPlan,
    secrets: Secrets,
    envoy: EnvoyFiles,
    bundle: MakeBundle,
    progress: Progress,
) -> None:
    paths = plan.request.paths
    for folder in (paths.run, paths.logs, paths.etc, paths.tmp):
        folder.mkdir(mode=0o700, exist_ok=True)
    sockets = paths.run / SOCKETS
    remove_trees([sockets] if sockets.exists() else [])  # an earlier start's
    keeper.adopt(str(paths.run), str(sockets), str(paths.logs / LOG))
    bundle.fill()
    _prepare(plan)
    cgroups.create(plan.limits)
    keeper.send(_spec(plan, secrets))  # bubblewrap starts, while there are no certificates yet
    keeper.send(_bundle_spec(plan, envoy, bundle()))
    keeper.await_ready(progress)


def _prepare(plan: BubblewrapPlan) -> None:
    paths = plan.request.paths
    (paths.run / entry.FILTER).write_bytes(compile_filter(plan.machine))
    for name, text in _ETC.items():
        (paths.etc / name).write_text(text)
        (paths.etc / name).chmod(0o644)
    for path in _own_trees(plan.request.grants):
        if os.path.islink(path):
            raise BottleError(f"{path} is a link, not a folder of this bottle")
    _check_mount_points(plan)
    if plan.stage.uid is not None:
        give_trees(_own_trees(plan.request.grants), plan.stage.uid)


def _own_trees(grants: tuple[Grant, ...]) -> list[str]:
    """The folders of the state that the bottle's user writes."""
    written = [grant for grant in grants if grant.writable and not grant.owned_by_operator]
    return [grant.source for grant in written] + [grant.overlay for grant in grants if grant.overlay]


def _check_mount_points(plan: BubblewrapPlan) -> None:
    """A mount point inside a folder that the bottle wrote must be a real folder: see `argv`."""
    for outer, inner in mount_points_within(plan.request.grants):
        folder = os.path.join(outer.overlay, "upper") if outer.overlay else outer.source
        _make_real_folder(os.path.join(folder, os.path.basename(inner.target)))


def mount_points_within(grants: tuple[Grant, ...]) -> list[tuple[Grant, Grant]]:
    """Each grant that is shown inside a writable one. Raises BottleError where it is not directly in it."""
    found = []
    for outer in (grant for grant in grants if grant.writable):
        for inner in grants:
            if not inner.target.startswith(outer.target + "/"):
                continue
            if os.path.dirname(inner.target) != outer.target:
                raise BottleError(f"the mount point {inner.target} lies too deep in {outer.target}")
            found.append((outer, inner))
    return found


def _make_real_folder(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
    if os.path.islink(path) or not os.path.isdir(path):
        raise BottleError(f"{path} is not a folder")


def _spec(plan: BubblewrapPlan, secrets: Secrets) -> dict[str, object]:
    paths = plan.request.paths
    environment = (*plan.request.environment, *secrets.environment.items())
    return {
        "bwrap": plan.bwrap,
        "arguments": bwrap_arguments(plan.mounts, "bottle", environment),
        "stage": to_json(plan.stage),
        "cgroups": list(plan.limits.groups),
        "rlimits": [list(item) for item in plan.limits.rlimits],
        "wall_time": plan.limits.wall_time,
        "port": GATE_PORT,
        "supervise_port": _supervise_port(plan.request),
        "run": str(paths.run),
        "entry": str(paths.run / ENTRY),
        "filter": str(paths.run / entry.FILTER),
    }


def _bundle_spec(plan: BubblewrapPlan, envoy: EnvoyFiles, bundle: BundlePlan) -> dict[str, object]:
    spec = BundleSpec(
        policy=plan.request.policy,
        leaves=bundle.leaves,
        credentials=bundle.credentials,
        envoy=tuple(envoy_argv(plan.envoy, envoy)),
        envoy_uid=plan.envoy.uid,
        authorities=ENVOY_AUTHORITIES,
        decisions=str(plan.request.paths.decisions),
        services=str(plan.request.paths.run / SERVICES_FILE),
        supervised=plan.request.supervised,
        patience=plan.request.patience,
        authority=bundle.authority,
        grants=bundle.grants,
        control=f"../{CONTROL}",  # from where the bundle works; Envoy is shown no folder above its own
        control_uid=os.geteuid(),
        proposals=str(plan.request.paths.proposals),
        queue=read_queue(str(plan.request.paths.proposals)),
        supervise=_supervise_port(plan.request),
    )
    return spec_to_json(spec)


def _supervise_port(request: BottleRequest) -> int | None:
    return SUPERVISE_PORT if SUPERVISE in request.services else None


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
