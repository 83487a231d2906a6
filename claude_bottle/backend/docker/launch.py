"""Carries a plan out: two containers at once, and the bottle's files as soon as there is a place for them.

Invariant: when `start` raises, no container of this bottle is left; and until it is told "keep" every one of
them ends when this process does, since each reads the end of its input so. Who probes the bottle, or keeps
it, waits first for its sidecars to be ready; who fills it need not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from claude_bottle.backend.base import (
    AUTHORITIES,
    NODE_HOME,
    SUPERVISE_PORT,
    EnvoyFiles,
    MakeBundle,
    Progress,
    Secrets,
)
from claude_bottle.backend.beside import Beside
from claude_bottle.backend.docker import bodies
from claude_bottle.backend.docker.attached import Attached
from claude_bottle.backend.docker.bodies import BUNDLE_FOLDER, BUNDLE_LOG, PRIVATE, SESSIONS
from claude_bottle.backend.docker.enter import Entry
from claude_bottle.backend.docker.enumerate import Container, containers
from claude_bottle.backend.docker.files import Tree, archive, put
from claude_bottle.backend.docker.plan import DockerPlan
from claude_bottle.backend.docker.remove import remove_containers
from claude_bottle.backend.seccomp import container_profile
from claude_bottle.backend.sessions import FOLDER
from claude_bottle.errors import BottleError
from claude_bottle.sidecars.bundle_spec import BundleSpec, spec_to_json
from claude_bottle.sidecars.queue_file import read_queue
from claude_bottle.sidecars.services import SERVICES_FILE
from claude_bottle.state.trees import remove_trees

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

_SIDECARS, _AGENT = "the sidecars' container", "the bottle's container"
_START_SECONDS, _PLACE = 60.0, "authorities.pem"


class Launching:
    """The containers of one bottle while they belong to this process."""

    def __init__(self, plan: DockerPlan, engine: Engine, progress: Progress) -> None:
        self._plan = plan
        self._engine = engine
        self._progress = progress
        self._ready = False
        self._attached: list[Attached] = []
        self._probing: Entry | None = None

    def start(self, secrets: Secrets, envoy: EnvoyFiles, bundle: MakeBundle) -> None:
        """Until its files are in and its life line is held.

        Raises BottleError; then nothing is left of it but volumes, which `forget` removes.
        """
        self._refuse_or_remove_remains()
        try:
            self._start(secrets, envoy, bundle)
        except BaseException:
            self.abandon()
            raise

    def _start(self, secrets: Secrets, envoy: EnvoyFiles, bundle: MakeBundle) -> None:
        plan = self._plan
        self._prepare_folders()
        # gVisor answers EPERM to what shall not be there, and libraries then do not do without it.
        profile = container_profile(plan.facts.machine, absent=not plan.ferried)
        filter_text = json.dumps(profile)
        with (
            Beside(self._attaching(_SIDECARS, plan.names.sidecars, plan.sidecars_body())) as sidecars_made,
            Beside(self._attaching(_AGENT, plan.names.agent, plan.agent_body(filter_text))) as agent_made,
        ):
            made = bundle()
        sidecars, agent = sidecars_made.wait(), agent_made.wait()
        with open(envoy.authorities, encoding="utf-8") as file:
            authorities = file.read()
        spec = BundleSpec(
            policy=plan.request.policy,
            leaves=made.leaves,
            credentials=made.credentials,
            envoy=(),
            envoy_uid=None,
            authorities=f"{BUNDLE_FOLDER}/{_PLACE}",
            decisions=f"{BUNDLE_LOG}/decisions.jsonl",
            services=f"{BUNDLE_FOLDER}/{SERVICES_FILE}",
            supervised=plan.request.supervised,
            patience=plan.request.patience,
            authority=made.authority,
            grants=made.grants,
            control=f"@{plan.names.control}",
            control_uid=0,
            proposals=f"{BUNDLE_LOG}/{plan.request.paths.proposals.name}",
            queue=read_queue(str(plan.request.paths.proposals)),
            supervise=SUPERVISE_PORT if plan.supervised else None,
        )
        wall = plan.request.limits.wall_time
        sidecars.send(
            {
                "bundle": spec_to_json(spec),
                "authorities": authorities,
                "wall_time": wall,
                "ferried": plan.ferried,
            }
        )
        given = self._given(secrets)
        agent.rest(f"{len(given)}\n".encode() + given)
        with Beside(self._fill):
            agent.hear(_START_SECONDS)
            with Beside(self._enter_probe):
                agent.hear(_START_SECONDS)
            began = sidecars.hear(_START_SECONDS)
            self._progress("containers", float(began.get("ms", 0)))
            waited = time.monotonic()
        self._progress("files", (time.monotonic() - waited) * 1000)

    def _await_ready(self) -> Attached:
        """The sidecars, when they are. Raises BottleError."""
        sidecars = next(item for item in self._attached if item.what == _SIDECARS)
        while not self._ready:
            message = sidecars.hear(_START_SECONDS)
            self._ready = message.get("ready") is True
            if not self._ready:
                self._progress(str(message["step"]), float(message["ms"]))
        return sidecars

    def _enter_probe(self) -> None:
        """While the sidecars come up: it waits for its questions."""
        self._probing = Entry(self._engine, self._plan.names.agent, bodies.probe())

    def _attaching(self, what: str, name: str, body: dict[str, object]) -> Callable[[], Attached]:
        def attach() -> Attached:
            attached = Attached(self._engine, what, name, body)
            self._attached.append(attached)
            return attached

        return attach

    def _prepare_folders(self) -> None:
        paths = self._plan.request.paths
        for folder in (paths.run, paths.run / "egress", paths.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        if self._plan.sessions is not None:
            paths.sessions.mkdir(mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(paths.sessions, self._plan.uid, self._plan.uid)
        if self._plan.facts.local and os.geteuid() == 0:
            for folder in (paths.run / "egress", paths.logs):
                os.chown(folder, self._plan.bundle_uid, self._plan.bundle_uid)

    def _refuse_or_remove_remains(self) -> None:
        """What ended without being tidied away, of a bottle whose state is this one."""
        found = self._found()
        if any(item.runs for item in found):
            raise BottleError(f"{self._plan.names.slug} runs already")
        remove_containers(self._engine, [item.name for item in found])

    def _found(self) -> tuple[Container, ...]:
        """By label: what has the same name and is not ours stays."""
        return containers(self._engine, self._plan.names.home_id, self._plan.names.slug)

    def _given(self, secrets: Secrets) -> bytes:
        """What the bottle's user may read and not change."""
        authority = next(grant for grant in self._plan.request.grants if grant.target == AUTHORITIES)
        with open(authority.source, "rb") as file:
            authorities = file.read()
        private = "".join(f"{name}={value}\0" for name, value in secrets.environment.items())
        return archive({_PLACE: authorities, os.path.basename(PRIVATE): private.encode()})

    def _fill(self) -> None:
        """The bottle's own files, once: what has been moved in is not there to be moved in again."""
        plan = self._plan
        for grant in plan.copies:
            shown = [Tree(Path(grant.source), ".", public=True)]
            put(self._engine, plan.names.agent, grant.target, shown, 0)
        trees = [tree for tree in plan.trees() if tree.source.is_dir() and not tree.name.startswith("..")]
        if trees:
            self._lead_to_sessions()
            put(self._engine, plan.names.agent, NODE_HOME, trees, plan.uid)
            remove_trees(tree.source for tree in trees)

    def _lead_to_sessions(self) -> None:
        """From where Claude Code looks for them. Nobody inside has written in this folder yet."""
        link = self._plan.request.paths.home.joinpath(*FOLDER)
        if self._plan.sessions is not None and link.parent.is_dir() and not link.is_symlink():
            link.symlink_to(SESSIONS)

    def take_probe(self) -> Entry | None:
        """The probe that waits for its questions; once. Raises BottleError where nothing is ready for it."""
        self._await_ready()
        taken, self._probing = self._probing, None
        return taken

    def keep(self) -> None:
        """From now on the containers outlive this process. Raises BottleError."""
        sidecars = self._await_ready()
        sidecars.rest(b"keep\n")
        if not sidecars.hear(_START_SECONDS).get("kept"):
            raise BottleError("the sidecars do not stay")
        self._close()

    def _close(self) -> None:
        if self._probing is not None:
            self._probing.close()
        for attached in self._attached:
            attached.close()
        self._attached = []

    def abandon(self) -> None:
        """Ends and removes whatever there is by now."""
        self._close()
        with suppress(BottleError):
            remove_containers(self._engine, [item.name for item in self._found()])
