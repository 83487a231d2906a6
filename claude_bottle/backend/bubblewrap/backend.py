"""The bubblewrap backend: bare Linux namespaces, no daemon, no image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from claude_bottle.backend.base import (
    ActiveAgent,
    BottleBackend,
    BottlePlan,
    BottleRequest,
    EnvoyFiles,
    FindEnvoy,
    Look,
    MakeBundle,
    Progress,
    Readiness,
    Remain,
    Secrets,
    Warm,
    Watching,
)
from claude_bottle.proc import Runner, SystemRunner
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths, Home, list_slugs

if TYPE_CHECKING:
    from claude_bottle.backend.bubblewrap.bottle import BubblewrapBottle
    from claude_bottle.backend.bubblewrap.host import HostFacts
    from claude_bottle.backend.bubblewrap.keeper_process import KeeperProcess

_GROUP, _CRADLE = "control group", "folder"


class BubblewrapBackend(BottleBackend):
    name = "bubblewrap"

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner: Runner = runner or SystemRunner()

    @cached_property
    def _facts(self) -> HostFacts:
        """The host as it was when this backend first looked."""
        from claude_bottle.backend.bubblewrap.host import observe

        return observe(self._runner)

    def check(self) -> Readiness:
        from claude_bottle.backend.bubblewrap.host import judge

        return judge(self._facts)

    def examine(self) -> Readiness:
        from claude_bottle.backend.bubblewrap.trial import try_bubblewrap

        return try_bubblewrap(self._runner)

    def plan(self, request: BottleRequest) -> BottlePlan:
        from claude_bottle.backend.bubblewrap.plan import plan_bottle
        from claude_bottle.errors import BackendMissingError

        readiness = self.check()
        if not readiness.ok:
            raise BackendMissingError(f"bubblewrap cannot be used here: {readiness.reason}", readiness.hint)
        return plan_bottle(request, self._facts, _identity())

    def warm_up(self, state: Path, envoy: FindEnvoy) -> KeeperProcess:
        from claude_bottle.backend.bubblewrap.keeper_process import KeeperProcess

        keeper = KeeperProcess()
        try:
            from claude_bottle.backend.bubblewrap.plan import plan_envoy

            keeper.start_envoy(plan_envoy(self._facts, _identity()), str(state), envoy())
        except BaseException:
            keeper.abandon()
            raise
        return keeper

    def launch(
        self,
        plan: BottlePlan,
        secrets: Secrets,
        envoy: EnvoyFiles,
        bundle: MakeBundle,
        progress: Progress,
        warm: Warm | None = None,
    ) -> BubblewrapBottle:
        from claude_bottle.backend.bubblewrap.bottle import BubblewrapBottle
        from claude_bottle.backend.bubblewrap.keeper_process import KeeperProcess
        from claude_bottle.backend.bubblewrap.launch import start
        from claude_bottle.backend.bubblewrap.plan import BubblewrapPlan

        assert isinstance(plan, BubblewrapPlan)
        state = plan.request.paths.root.parent
        keeper = warm if isinstance(warm, KeeperProcess) else self.warm_up(state, lambda: envoy)
        plan = plan._replace(envoy=keeper.envoy_plan)  # it runs already
        start(keeper, plan, secrets, envoy, bundle, progress)
        return BubblewrapBottle(plan.request.slug, plan.request.paths, self._runner, keeper)

    def find(self, metadata: Metadata, paths: BottlePaths) -> BubblewrapBottle | None:
        from claude_bottle.backend.bubblewrap.bottle import BubblewrapBottle
        from claude_bottle.backend.bubblewrap.lock import lock_holder

        if lock_holder(str(paths.run)) == 0:
            return None
        return BubblewrapBottle(metadata.slug, paths, self._runner)

    def active(self, state: Path) -> list[ActiveAgent]:
        from claude_bottle.backend.bubblewrap.enumerate import active_agents

        return active_agents(state)

    def look(self, slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
        from claude_bottle.backend.bubblewrap.look import look

        return look(Home(state.parent), slugs)

    def watch(self, state: Path) -> Watching:
        from claude_bottle.backend.bubblewrap.watch import Watch

        watch = Watch(state)
        return Watching(watch.active, watch.look)

    def remains(self, state: Path) -> list[Remain]:
        from claude_bottle.backend.bubblewrap.cgroups import remains
        from claude_bottle.backend.bubblewrap.cradle import forgotten
        from claude_bottle.backend.bubblewrap.lock import lock_holder

        home = Home(state.parent)
        ended = [slug for slug in list_slugs(home) if lock_holder(str(home.bottle(slug).run)) == 0]
        groups = [
            Remain(_GROUP, group, slug, "its bottle does not run")
            for slug in ended
            for group in remains(slug)
        ]
        cradles = forgotten(str(state)) if state.is_dir() else []
        return groups + [
            Remain(_CRADLE, cradle, os.path.basename(cradle), "its start ended before it had a bottle")
            for cradle in cradles
        ]

    def clean(self, remains: Sequence[Remain]) -> None:
        from claude_bottle.backend.bubblewrap.cgroups import remove
        from claude_bottle.backend.bubblewrap.cradle import remove_unused

        remove(tuple(item.name for item in remains if item.kind == _GROUP))
        for item in (item for item in remains if item.kind == _CRADLE):
            remove_unused(item.name)

    def discard(self, metadata: Metadata, paths: BottlePaths) -> None:
        from claude_bottle.backend.bubblewrap.cgroups import remains, remove
        from claude_bottle.backend.bubblewrap.guard import end_remains

        end_remains(str(paths.run))
        remove(remains(metadata.slug))


def _identity() -> int:
    """What sets one bottle, or one Envoy, apart from the others."""
    return int.from_bytes(os.urandom(4)) % (1 << 20)
