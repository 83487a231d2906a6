"""From "start AGENT" to a frozen plan and the preflight text. Writes only the new state folder.

Invariant: nothing is started and no secret is read here but those that the plan's text must know to exist.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import claude_bottle
from claude_bottle.backend import load_backend
from claude_bottle.backend.base import (
    AUTHORITIES,
    CLAUDE,
    NODE_HOME,
    BottleBackend,
    BottlePlan,
    BottleRequest,
    Grant,
)
from claude_bottle.errors import NotFoundError, UsageError
from claude_bottle.manifest.load import LoadedManifest, load_manifest
from claude_bottle.manifest.model import Agent, Bottle, Supervise, resolved_digest
from claude_bottle.operations import claude, workspace
from claude_bottle.operations.choices import Options, choose_backend, find_authorities
from claude_bottle.operations.context import Context
from claude_bottle.operations.credentials import claude_credential, find_claude
from claude_bottle.operations.repository import git, observe_repository
from claude_bottle.policy.additions import Additions
from claude_bottle.policy.model import Policy, Route
from claude_bottle.sidecars.services import SERVICES, SUPERVISE
from claude_bottle.state import additions, store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths

CHECKOUT = Path(claude_bottle.__file__).parent.parent
_UNHANDLED = ("image", "dockerfile", "packages", "runtime", "ssh")


class Prepared(NamedTuple):
    """A launch that is decided in every detail, but not begun."""

    agent: Agent
    bottle: Bottle
    backend: BottleBackend
    chosen: str  # why this backend
    plan: BottlePlan
    workspace: workspace.WorkspacePlan
    metadata: Metadata
    paths: BottlePaths
    credential: claude.Credential | None
    claude: Path
    authorities: Path
    git_user: tuple[str, str]
    warnings: tuple[str, ...]
    additions: Additions = Additions()

    @property
    def claude_arguments(self) -> list[str]:
        return claude.arguments(self.agent.prompt, self.agent.model, supervised=bool(self.bottle.supervise))


def resolve_agent(loaded: LoadedManifest, name: str) -> tuple[Agent, Bottle]:
    """Raises NotFoundError with the nearest name."""
    agents = loaded.manifest.agents
    if name not in agents:
        hint = store.nearest_hint(name, list(agents)) or (
            "write one: claude-bottle init" if not agents else None
        )
        raise NotFoundError(f"there is no agent {name!r}", hint)
    return agents[name], loaded.manifest.bottles[agents[name].bottle]


def load(context: Context) -> LoadedManifest:
    return load_manifest(context.home.root, context.folder)


def prepare(context: Context, options: Options, backend: BottleBackend | None = None) -> Prepared:
    """Raises BottleError; the state folder is then gone again."""
    loaded = load(context)
    agent, bottle = resolve_agent(loaded, options.agent)
    supervise = options.unanswered.laid(bottle.supervise) if options.unanswered else bottle.supervise
    backend = backend or choose_backend(context, options)
    _refuse_what_is_not_done(backend, bottle)
    folder = (options.folder or context.folder).resolve()
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}")
    find_authorities(context)
    find_claude(context.environment, CHECKOUT)
    repository = observe_repository(context.runner, folder)
    mode = workspace.choose_mode(options.workspace, bottle.workspace, repository)
    slug = store.create(context.home, agent.name)
    paths = context.home.bottle(slug)
    try:
        work = workspace.plan_workspace(context.runner, mode, folder, repository, slug, options.carry)
        metadata = Metadata(
            slug=slug,
            agent=agent.name,
            bottle=bottle.name,
            backend=backend.name,
            created=time.time(),
            workspace=mode,
            origin=str(work.folder),
            manifest_digest=resolved_digest(loaded.manifest, agent.name),
            branch=work.branch,
            base=repository.head if repository is not None else "",
            runtime=bottle.runtime or "",
        )
        store.save(context.home, metadata)
        purpose = _purpose(context, loaded, metadata.agent)
        purpose = purpose._replace(bottle=purpose.bottle._replace(supervise=supervise))
        return _assemble(context, purpose, backend, work, metadata, _why(options, context))
    except BaseException:
        store.remove(paths)
        raise


def prepare_again(context: Context, metadata: Metadata, added: Additions | None = None) -> Prepared:
    """The same bottle from its own state: same backend, same folders, the manifest as it is now.

    `added` is by default what the state says was added to it.

    The metadata of what is returned is of the manifest as it is now. Raises BottleError.
    """
    loaded = load(context)
    purpose = _purpose(context, loaded, metadata.agent)
    added = additions.load(context.home.bottle(metadata.slug)) if added is None else added
    purpose = purpose.with_added(added)
    _refuse_what_is_not_done(load_backend(metadata.backend), purpose.bottle)
    if added.dockerfile and "dockerfile" not in load_backend(metadata.backend).handles:
        raise UsageError(f"the backend {metadata.backend} cannot add to a bottle's file system")
    if (purpose.bottle.runtime or "") != metadata.runtime:
        where = purpose.bottle.origin or purpose.bottle.name
        before, now = metadata.runtime or "none", purpose.bottle.runtime or "none"
        raise UsageError(
            f"{where}: {metadata.slug} was made with the runtime {before}, not {now}",
            f"set it back, or take the work and start a new one: claude-bottle pull {metadata.slug}",
        )
    digest = resolved_digest(loaded.manifest, metadata.agent)
    present = metadata._replace(bottle=purpose.bottle.name, manifest_digest=digest)
    return _from_state(context, purpose, present)


def prepare_capture(context: Context, metadata: Metadata) -> Prepared:
    """The same bottle with nobody in it and no way out, only to make a bundle of its work.

    It needs neither the manifest nor a secret, which may both be gone by then.
    """
    agent = Agent(name=metadata.agent, bottle=metadata.bottle)
    nobody_asks = Supervise(allowed=False)
    bottle = Bottle(name=metadata.bottle, runtime=metadata.runtime or None, supervise=nobody_asks)
    return _from_state(context, _Purpose(agent, bottle, None, ()), metadata)


def _from_state(context: Context, purpose: _Purpose, metadata: Metadata) -> Prepared:
    backend = load_backend(metadata.backend)
    folder = Path(metadata.origin)
    repository = observe_repository(context.runner, folder) if folder.is_dir() else None
    if repository is None and metadata.branch:
        raise NotFoundError(f"the repository {folder} is gone", "put it back where it was")
    if repository is not None:  # the workspace began with that commit, whatever the repository is at now
        repository = repository._replace(head=metadata.base, dirty=False)
    if metadata.workspace in ("overlay", "bind") and not folder.is_dir():
        raise NotFoundError(f"the folder {folder} is gone", "put it back where it was")
    work = workspace.plan_workspace(
        context.runner, metadata.workspace, folder, repository, metadata.slug, False
    )
    return _assemble(context, purpose, backend, work, metadata, "as before")


class _Purpose(NamedTuple):
    """What a bottle is for: who works in it, and what it may reach."""

    agent: Agent
    bottle: Bottle
    credential: claude.Credential | None
    routes: tuple[Route, ...]
    warnings: tuple[str, ...] = ()
    additions: Additions = Additions()

    def with_added(self, added: Additions) -> _Purpose:
        packages = tuple(dict.fromkeys(self.bottle.packages + added.packages))
        return self._replace(bottle=self.bottle._replace(packages=packages), additions=added)


def _purpose(context: Context, loaded: LoadedManifest, name: str) -> _Purpose:
    agent, bottle = resolve_agent(loaded, name)
    credential = claude_credential(context.environment)
    routes = claude.routes(credential, bottle.egress.routes)
    return _Purpose(agent, bottle, credential, routes, tuple(loaded.warnings))


def _assemble(
    context: Context,
    purpose: _Purpose,
    backend: BottleBackend,
    work: workspace.WorkspacePlan,
    metadata: Metadata,
    chosen: str,
) -> Prepared:
    paths = context.home.bottle(metadata.slug)
    binary = find_claude(context.environment, CHECKOUT)
    request = _request(purpose, metadata.slug, paths, work, binary)
    return Prepared(
        agent=purpose.agent,
        bottle=purpose.bottle,
        backend=backend,
        chosen=chosen,
        plan=backend.plan(request),
        workspace=work,
        metadata=metadata,
        paths=paths,
        credential=purpose.credential,
        claude=binary,
        authorities=find_authorities(context),
        git_user=_git_user(context, purpose.agent, purpose.bottle),
        warnings=purpose.warnings,
        additions=purpose.additions,
    )


def _request(
    purpose: _Purpose, slug: str, paths: BottlePaths, work: workspace.WorkspacePlan, binary: Path
) -> BottleRequest:
    bottle = purpose.bottle
    literal = tuple((name, value.value) for name, value in bottle.env.items() if value.kind == "literal")
    own = claude.environment(purpose.credential)
    for name in bottle.env:
        if name in dict(own):
            raise UsageError(f"env {name} is claude-bottle's own", "choose another name")
    return BottleRequest(
        slug=slug,
        agent=purpose.agent.name,
        bottle=bottle.name,
        paths=paths,
        grants=(
            Grant(str(paths.home), NODE_HOME, writable=True),
            *workspace.grants(work, paths),
            Grant(str(binary), CLAUDE),
            Grant(str(paths.root / "authorities.pem"), AUTHORITIES),
        ),
        environment=(*own, *literal),
        limits=bottle.limits,
        policy=Policy(purpose.routes),
        services=(*SERVICES, *([SUPERVISE] if bottle.supervise else [])),
        supervised=bottle.supervise.allowed,
        patience=bottle.supervise.patience,
        image=bottle.image,
        dockerfile=bottle.dockerfile,
        packages=bottle.packages,
        added=purpose.additions.dockerfile,
        runtime=bottle.runtime,
    )


def _refuse_what_is_not_done(backend: BottleBackend, bottle: Bottle) -> None:
    """A setting that would have no effect is an error: it was written for a reason."""
    for name in _UNHANDLED:
        if getattr(bottle, name) and name not in backend.handles:
            raise UsageError(
                f"{bottle.origin or bottle.name}: the backend {backend.name} cannot do {name!r}", "remove it"
            )
    if bottle.git.repos:
        raise UsageError(
            f"{bottle.origin or bottle.name}: pushing through git.repos is not there yet", "remove it"
        )


def _why(options: Options, context: Context) -> str:
    if options.backend:
        return "asked for"
    if context.environment.get("CLAUDE_BOTTLE_BACKEND"):
        return "$CLAUDE_BOTTLE_BACKEND"
    return "the first that works here"


def _git_user(context: Context, agent: Agent, bottle: Bottle) -> tuple[str, str]:
    user = bottle.git.user.overlaid(agent.git_user)
    found: dict[str, str] = {}
    if not (user.name and user.email):
        asking = git(context.folder, "config", "-z", "--get-regexp", r"^user\.(name|email)$")
        pairs = (item.partition("\n") for item in context.runner.run(asking).text.split("\0"))
        found = {key: value.strip() for key, _, value in pairs}  # of several the last counts, as for git
    name = user.name or found.get("user.name") or f"claude ({agent.name})"
    return name, user.email or found.get("user.email") or "claude@bottle.invalid"
