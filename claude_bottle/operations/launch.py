"""From a prepared plan to a proved bottle; on any failure back to nothing, in reverse order.

Invariant: a bottle that was not proved from inside is never handed over, and never outlives this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Bottle, BundlePlan, Progress, Secrets, Warm
from claude_bottle.backend.beside import Beside
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.operations import claude, handover, picture, record, workspace
from claude_bottle.operations.choices import envoy_files
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import Ask, private_environment, read_credentials
from claude_bottle.operations.prepare import Prepared
from claude_bottle.operations.prove import Check, prove
from claude_bottle.sidecars.egress.certs import CertAndKey, make_ca, make_leaves
from claude_bottle.sidecars.egress.outlets import inspected_chains
from claude_bottle.state import marker, store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths


class Launched(NamedTuple):
    """A bottle that runs, was proved, and is now the state folder's own."""

    bottle: Bottle
    metadata: Metadata
    paths: BottlePaths
    claude_arguments: list[str]
    proof: tuple[Check, ...]
    notify: tuple[str, ...] = ()  # the operator's command that tells of a proposal
    supervised: bool = True  # whether its agent may propose anything


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
            if marker.read(prepared.paths) is not None:
                raise BottleError(f"{prepared.metadata.slug} was stopped before it had begun")
            with store.explained(context.home):
                return _launch(context, prepared, progress, ask, again=False, warm=warm)
        except BaseException:
            if warm is not None:
                warm.abandon()
            abandon(prepared)
            raise


def revive(
    context: Context,
    prepared: Prepared,
    progress: Progress,
    ask: Ask,
    proved: Callable[[], None] = lambda: None,
) -> Launched:
    """A bottle whose state is there already; the caller holds its lock. `proved` is called when it is proved.

    Raises BottleError; then nothing runs and the state is as it was.
    """
    handover.forget(prepared.paths)
    with store.explained(context.home):
        return _launch(context, prepared, progress, ask, again=True, proved=proved)


def _launch(
    context: Context,
    prepared: Prepared,
    progress: Progress,
    ask: Ask,
    *,
    again: bool,
    warm: Warm | None = None,
    proved: Callable[[], None] = lambda: None,
) -> Launched:
    bottle: Bottle | None = None
    try:
        secrets = Secrets(private_environment(prepared.bottle.env, context.environment, ask))
        routes = prepared.plan.request.policy.routes
        credentials = read_credentials(context.runner, context.environment, routes)
        making = _Making(context, prepared, credentials, progress, again=again)
        bottle = prepared.backend.launch(prepared.plan, secrets, envoy_files(context), making, progress, warm)
        steps = Steps(progress)
        proof = _prove_and_fill(bottle, prepared, making.authority, tuple(credentials.values()), again=again)
        steps.done(f"proved by {len(proof)} checks from inside")
        if not again:  # from now on there is something to go on with
            picture.save(prepared.paths, picture.of(prepared))
        proved()
        record.start(context, prepared, again=again)
        bottle.keep()
        supervise = prepared.bottle.supervise
        return Launched(
            bottle,
            prepared.metadata,
            prepared.paths,
            prepared.claude_arguments,
            proof,
            supervise.notify or (),
            supervise.allowed,
        )
    except BaseException:
        if bottle is not None:
            bottle.stop()
        raise


class _Making:
    """What a backend calls for while it starts the bottle: the state folder's content, and certificates."""

    def __init__(
        self,
        context: Context,
        prepared: Prepared,
        credentials: dict[str, str],
        progress: Progress,
        *,
        again: bool,
    ) -> None:
        self._context = context
        self._prepared = prepared
        self._credentials = credentials
        self._progress = progress
        self._again = again
        self._filled = False
        self.authority = ""

    def fill(self) -> None:
        if self._filled:
            return
        steps = Steps(self._progress)
        if not self._again:
            workspace.materialise(self._context.runner, self._prepared.workspace, self._prepared.paths)
            _provision(self._context, self._prepared)
        authorities = _authorities(self._prepared)
        authorities.touch()
        authorities.chmod(0o644)
        self._filled = True
        steps.done("workspace")

    def __call__(self) -> BundlePlan:
        self.fill()
        steps = Steps(self._progress)
        plan, self.authority = _bundle(self._prepared, self._credentials)
        steps.done("certificates")
        return plan


def _prove_and_fill(
    bottle: Bottle, prepared: Prepared, authority: str, secret_values: tuple[str, ...], *, again: bool
) -> tuple[Check, ...]:
    """The proof, and beside it git filling the workspace: no program of an agent runs yet."""
    if again:
        return prove(bottle, prepared.plan.request.policy, authority, secret_values)
    with Beside(partial(workspace.finish_inside, bottle, prepared.workspace)):
        return prove(bottle, prepared.plan.request.policy, authority, secret_values)


def dispose(launched: Launched) -> None:
    """Ends a bottle of which nothing is to be kept but its state folder."""
    backend = load_backend(launched.metadata.backend)
    launched.bottle.stop()
    backend.discard(launched.metadata, launched.paths)
    backend.forget(launched.metadata, launched.paths)


def abandon(prepared: Prepared) -> None:
    """Forgets a launch that was not begun, or has just been undone.

    What cannot be reached now to be removed has no state then, so `cleanup` finds it.
    """
    with suppress(BottleError):
        prepared.backend.discard(prepared.metadata, prepared.paths)
        prepared.backend.forget(prepared.metadata, prepared.paths)
    store.remove(prepared.paths)


def _bundle(prepared: Prepared, credentials: dict[str, str]) -> tuple[BundlePlan, str]:
    hosts = [chain.host for chain in inspected_chains(prepared.plan.request.policy)]
    authority = make_ca(f"claude-bottle {prepared.metadata.slug}")
    leaves: dict[str, CertAndKey] = make_leaves(authority, hosts)
    merged = prepared.authorities.read_bytes().rstrip() + b"\n" + authority.cert_pem.encode()
    _authorities(prepared).write_bytes(merged)  # in place: a bottle may be shown this file already
    return BundlePlan(leaves, credentials, authority), authority.cert_pem


def _authorities(prepared: Prepared) -> Path:
    return prepared.paths.root / "authorities.pem"


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
