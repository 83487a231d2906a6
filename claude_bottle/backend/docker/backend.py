"""The Docker backend: a container without network, and the container that is its loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from claude_bottle.backend.base import (
    CLAUDE,
    NODE_HOME,
    SESSION_DATA,
    ActiveAgent,
    BottleBackend,
    BottlePlan,
    BottleRequest,
    EnvoyFiles,
    Look,
    MakeBundle,
    Progress,
    Readiness,
    Remain,
    Secrets,
    Warm,
)
from claude_bottle.backend.docker.api import EngineError, SystemEngine
from claude_bottle.backend.docker.bodies import Names
from claude_bottle.backend.docker.bottle import DockerBottle
from claude_bottle.backend.docker.engine import (
    VARIABLES,
    WITHOUT_CLIENT,
    EngineFacts,
    find,
    has_client,
    judge,
    observe,
    unfit_client,
)
from claude_bottle.backend.docker.enumerate import (
    active_agents,
    containers,
    has_bottles,
    is_whole,
)
from claude_bottle.errors import BackendMissingError, BottleError, NotFoundError
from claude_bottle.proc import Runner, SystemRunner
from claude_bottle.state.harvest import Left
from claude_bottle.state.identity import identity
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths, Home, list_slugs

_Row = TypeVar("_Row")
_CLAUDE = f"{NODE_HOME}/.claude"
_COPY_BYTES = 600 << 20
_COPY_SECONDS = 300.0
_NOT_THERE = 404


class DockerBackend(BottleBackend):
    name = "docker"
    handles = frozenset({"image", "dockerfile", "packages", "runtime"})
    home_stays = False  # its volumes do, but only a container can read them
    variables = VARIABLES

    def __init__(self, runner: Runner | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._runner: Runner = runner or SystemRunner(self._environment)

    @cached_property
    def _found(self) -> tuple[str, SystemEngine]:
        return find(self._runner, self._environment)

    @property
    def _engine(self) -> SystemEngine:
        return self._found[1]

    @cached_property
    def _facts(self) -> EngineFacts:
        """The engine as it was when this backend first asked."""
        if not has_client(self._environment):
            return WITHOUT_CLIENT
        try:
            endpoint, engine = self._found
            found = observe(engine, endpoint)
        except BottleError as error:
            found = EngineFacts(fault=f"the engine cannot be asked: {error.message}", hint=error.hint)
        # It takes longer than all the rest to ask the client, which says more only where the engine does not.
        return found if not found.fault else unfit_client(self._runner) or found

    def check(self) -> Readiness:
        return judge(self._facts)

    def examine(self) -> Readiness:
        return self.check()

    def plan(self, request: BottleRequest) -> BottlePlan:
        from claude_bottle.backend.docker import images
        from claude_bottle.backend.docker.plan import plan_bottle

        readiness = self.check()
        if not readiness.ok:
            raise BackendMissingError(f"docker cannot be used here: {readiness.reason}", readiness.hint)
        tags = tuple(tag for _, tag in self._recipes(request))
        missing = images.missing(self._engine, tags)
        names = Names(request.slug, self._own_identity(request))
        return plan_bottle(request, self._facts, names, (tags[0], tags[1]), missing, os.geteuid())

    def _own_identity(self, request: BottleRequest) -> str:
        """A new one would leave the containers of others of this home to nobody."""
        from claude_bottle.state.identity import make_identity

        home = Home(request.paths.root.parent.parent)
        try:
            return identity(home.root)
        except BottleError:
            if has_bottles(home.state, but=request.slug):
                raise
            return make_identity(home.root)

    def _recipes(self, request: BottleRequest) -> tuple[tuple[object, str], ...]:
        from claude_bottle.backend.docker import images
        from claude_bottle.sidecars.egress.envoy import find_envoy

        claude = next(Path(grant.source) for grant in request.grants if grant.target == CLAUDE)
        envoy = find_envoy(self._environment)
        if envoy is None:
            raise NotFoundError("there is no Envoy on this host", "run script/bootstrap")
        for program in (claude, envoy):
            images.check_machine(program, self._facts.machine)
        digests = images.digest_files((claude, envoy), request.paths.root.parent / ".digests.json")
        base = self._base()
        own = images.user_recipe(Path(request.dockerfile)) if request.dockerfile else None
        beneath = request.image or (own.tag(digests) if own else base)
        added = images.added_recipe(beneath, request.added) if request.added else None
        beneath = added.tag(digests) if added else beneath
        agent = images.agent_recipe(
            beneath, claude, request.packages, os.geteuid() or 1000, self._facts.machine
        )
        bundle = images.bundle_recipe(base, envoy, self._facts.machine)
        found = [(agent, agent.tag(digests)), (bundle, bundle.tag(digests))]
        return (*found, *((recipe, recipe.tag(digests)) for recipe in (added, own) if recipe))

    def _base(self) -> str:
        """$CLAUDE_BOTTLE_BASE_IMAGE, else the one that script/base-image made, else Debian's official one."""
        from claude_bottle.backend.docker import images

        if chosen := self._environment.get("CLAUDE_BOTTLE_BASE_IMAGE"):
            return chosen
        return (
            images.DEFAULT_BASE if images.missing(self._engine, (images.LOCAL_BASE,)) else images.LOCAL_BASE
        )

    def build(self, plan: BottlePlan, progress: Progress) -> None:
        from claude_bottle.backend.docker import images
        from claude_bottle.backend.docker.plan import DockerPlan

        assert isinstance(plan, DockerPlan)
        if not images.missing(self._engine, plan.missing):  # somebody may have made them since
            return
        if (unfit := unfit_client(self._runner)) is not None:
            raise BackendMissingError(f"no image can be built: {unfit.fault}", unfit.hint)
        for recipe, tag in reversed(self._recipes(plan.request)):
            if tag in plan.missing:
                assert isinstance(recipe, images.Recipe)
                images.build(self._environment, recipe, tag, progress)

    def launch(
        self,
        plan: BottlePlan,
        secrets: Secrets,
        envoy: EnvoyFiles,
        bundle: MakeBundle,
        progress: Progress,
        warm: Warm | None = None,
    ) -> DockerBottle:
        from claude_bottle.backend.docker.launch import Launching
        from claude_bottle.backend.docker.plan import DockerPlan

        assert isinstance(plan, DockerPlan)
        self.build(plan, progress)
        launching = Launching(plan, self._engine, progress)
        launching.start(secrets, envoy, bundle)
        return DockerBottle(plan.names, self._engine, launching)

    def find(self, metadata: Metadata, paths: BottlePaths) -> DockerBottle | None:
        names = _names(metadata.slug, paths)
        if not is_whole(containers(self._engine, names.home_id, names.slug)):
            return None
        return DockerBottle(names, self._engine)

    def active(self, state: Path) -> list[ActiveAgent]:
        return self._asked(state, lambda: active_agents(self._engine, state))

    def look(self, slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
        from claude_bottle.backend.docker.look import look

        return look(self._engine, Home(state.parent), slugs)

    def _asked(self, state: Path, ask: Callable[[], list[_Row]]) -> list[_Row]:
        """An engine that does not answer has nothing of ours only where no bottle of it ever was."""
        try:
            return ask()
        except BottleError as error:
            if not has_bottles(state):
                return []
            raise BottleError(f"what runs there is not known: {error.message}") from error

    def remains(self, state: Path) -> list[Remain]:
        from claude_bottle.backend.docker.cleanup import observe_remains

        home = Home(state.parent)
        known = frozenset(list_slugs(home))
        return self._asked(state, lambda: observe_remains(self._engine, identity(home.root), known))

    def clean(self, remains: Sequence[Remain]) -> None:
        from claude_bottle.backend.docker.cleanup import remove_remains

        remove_remains(self._engine, remains)

    def take_session(self, metadata: Metadata, paths: BottlePaths, target: Path) -> Left:
        """Out of the container, running or not; where there is none, its volumes keep it."""
        from claude_bottle.backend.docker.files import take_out

        agent, left = _names(metadata.slug, paths).agent, Left()
        for name in SESSION_DATA:
            stream = self._copied(agent, f"{_CLAUDE}/{name}", "the transcript")
            if stream is not None:
                left.add(name, take_out(stream, target / name))
        return left

    def logs_at_hand(self, paths: BottlePaths) -> bool:
        return paths.sessions.is_dir()  # made where the engine shares folders of this host

    def gather_logs(self, metadata: Metadata, paths: BottlePaths) -> None:
        from claude_bottle.backend.docker.bodies import BUNDLE_LOG
        from claude_bottle.backend.docker.files import take_out

        if self.logs_at_hand(paths) or self._facts.local or self._facts.fault:
            return  # they are here, or what is here is all that can be had
        logs = self._copied(_names(metadata.slug, paths).sidecars, BUNDLE_LOG, "the logs")
        if logs is not None:
            take_out(logs, paths.logs)

    def _copied(self, container: str, folder: str, what: str) -> bytes | None:
        """The folder as a stream; None where there is none, or no container."""
        path, query = f"/containers/{container}/archive", {"path": folder}
        try:
            return self._engine.ask("GET", path, query=query, limit=_COPY_BYTES, timeout=_COPY_SECONDS)
        except EngineError as error:
            if error.status == _NOT_THERE:
                return None
            raise BottleError(f"{what} cannot be copied: {error.message}") from error

    def discard(self, metadata: Metadata, paths: BottlePaths) -> None:
        from claude_bottle.backend.docker.remove import remove_containers

        names = _names(metadata.slug, paths)
        found = containers(self._engine, names.home_id, names.slug)
        remove_containers(self._engine, [item.name for item in found])

    def forget(self, metadata: Metadata, paths: BottlePaths) -> None:
        from claude_bottle.backend.docker.remove import remove_volumes

        remove_volumes(self._engine, _names(metadata.slug, paths).volumes)


def _names(slug: str, paths: BottlePaths) -> Names:
    return Names(slug, identity(paths.root.parent.parent))
