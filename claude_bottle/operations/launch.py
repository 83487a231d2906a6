"""From a prepared plan to a proved bottle; on any failure back to nothing, in reverse order.

Invariant: a bottle that was not proved from inside is never handed over, and never outlives this process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend.base import Bottle, BundlePlan, Progress, Secrets, Warm
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.operations import claude, handover, workspace
from claude_bottle.operations.choices import envoy_files
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import Ask, private_environment, read_credentials
from claude_bottle.operations.prepare import Prepared
from claude_bottle.operations.prove import Check, prove
from claude_bottle.sidecars.egress.certs import CertAndKey, make_ca, make_leaves
from claude_bottle.sidecars.egress.outlets import inspected_chains
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths


class Launched(NamedTuple):
    """A bottle that runs, was proved, and is now the state folder's own."""

    bottle: Bottle
    metadata: Metadata
    paths: BottlePaths
    claude_arguments: list[str]
    proof: tuple[Check, ...]


class Steps:
    """Times the steps of a launch for the one who waits."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.monotonic()

    def done(self, name: str) -> None:
        now = time.monotonic()
        self._progress(name, (now - self._last) * 1000)
        self._last = now


def launch(
    context: Context, prepared: Prepared, progress: Progress, ask: Ask, warm: Warm | None = None
) -> Launched:
    """A new bottle. Raises BottleError; then nothing runs and no state is left. `warm` is used up."""
    with ExitStack() as lock:
        try:
            lock.enter_context(store.locked(prepared.paths))  # takes a file, which may fail too
            with store.explained(context.home):
                return _launch(context, prepared, progress, ask, again=False, warm=warm)
        except BaseException:
            if warm is not None:
                warm.abandon()
            abandon(prepared)
            raise


def revive(context: Context, prepared: Prepared, progress: Progress, ask: Ask) -> Launched:
    """A bottle whose state is there already; the caller holds its lock.

    Raises BottleError; then nothing runs and the state is as it was.
    """
    handover.forget(prepared.paths)
    with store.explained(context.home):
        return _launch(context, prepared, progress, ask, again=True)


def _launch(
    context: Context,
    prepared: Prepared,
    progress: Progress,
    ask: Ask,
    *,
    again: bool,
    warm: Warm | None = None,
) -> Launched:
    bottle: Bottle | None = None
    try:
        secrets = Secrets(private_environment(prepared.bottle.env, context.environment, ask))
        routes = prepared.plan.request.policy.routes
        credentials = read_credentials(context.runner, context.environment, routes)
        authority: list[str] = []

        def make_bundle() -> BundlePlan:
            steps = Steps(progress)
            if not again:
                workspace.materialise(context.runner, prepared.workspace, prepared.paths)
                _provision(context, prepared)
            steps.done("workspace")
            plan, certificate = _bundle(prepared, credentials)
            authority.append(certificate)
            steps.done("certificates")
            return plan

        bottle = prepared.backend.launch(
            prepared.plan, secrets, envoy_files(context), make_bundle, progress, warm
        )
        steps = Steps(progress)
        proof = _prove_and_fill(bottle, prepared, authority[0], tuple(credentials.values()), again=again)
        steps.done(f"proved by {len(proof)} checks from inside")
        bottle.keep()
        return Launched(bottle, prepared.metadata, prepared.paths, prepared.claude_arguments, proof)
    except BaseException:
        if bottle is not None:
            bottle.stop()
        raise


def _prove_and_fill(
    bottle: Bottle, prepared: Prepared, authority: str, secret_values: tuple[str, ...], *, again: bool
) -> tuple[Check, ...]:
    """The proof, and beside it git filling the workspace: no program of an agent runs yet."""
    filling = _Beside(workspace.finish_inside, bottle, prepared.workspace) if not again else None
    try:
        proof = prove(bottle, prepared.plan.request.policy, authority, secret_values)
    finally:
        if filling is not None:
            filling.wait()
    if filling is not None and filling.failure is not None:
        raise filling.failure
    return proof


class _Beside:
    """One call in a thread of its own, which keeps what it raised."""

    def __init__(self, call: Callable[..., None], *arguments: object) -> None:
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments))
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def _run(self, call: Callable[..., None], arguments: tuple[object, ...]) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            self.failure = error


def abandon(prepared: Prepared) -> None:
    """Forgets a launch that was not begun, or has just been undone."""
    prepared.backend.discard(prepared.metadata, prepared.paths)
    prepared.backend.forget(prepared.metadata, prepared.paths)
    store.remove(prepared.paths)


def _bundle(prepared: Prepared, credentials: dict[str, str]) -> tuple[BundlePlan, str]:
    hosts = [chain.host for chain in inspected_chains(prepared.plan.request.policy)]
    authority = make_ca(f"claude-bottle {prepared.metadata.slug}")
    leaves: dict[str, CertAndKey] = make_leaves(authority, hosts)
    merged = prepared.authorities.read_bytes().rstrip() + b"\n" + authority.cert_pem.encode()
    target = prepared.paths.root / "authorities.pem"
    target.write_bytes(merged)
    target.chmod(0o644)
    return BundlePlan(leaves, credentials), authority.cert_pem


def _provision(context: Context, prepared: Prepared) -> None:
    """Fills the bottle's home: prompt, skills, git identity, Claude Code's first answers."""
    home = prepared.paths.home
    home.mkdir(mode=0o755, exist_ok=True)
    for name, text in claude.files(prepared.agent.prompt, prepared.git_user).items():
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for skill in prepared.agent.skills:
        _copy_skill(context, skill, home / ".claude" / "skills" / skill)


def _copy_skill(context: Context, name: str, target: Path) -> None:
    import shutil

    configured = context.environment.get("CLAUDE_CONFIG_DIR")
    folder = Path(configured or Path.home() / ".claude") / "skills"
    source = folder / name
    if not source.is_dir():
        known = sorted(os.listdir(folder)) if folder.is_dir() else []
        raise NotFoundError(f"there is no skill {name!r} in {folder}", store.nearest_hint(name, known))
    try:
        shutil.copytree(source, target, ignore_dangling_symlinks=True)
    except (OSError, shutil.Error) as error:
        raise BottleError(f"the skill {name} cannot be copied: {error}") from error
