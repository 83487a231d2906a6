"""Carries a plan out: two containers at once, and the bottle's files as soon as there is a place for them.

Invariant: when `start` raises, no container of this bottle is left; and until it is told "keep" every one of
them ends when this process does, since each reads the end of its input so.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from claude_bottle.backend.attached import Attached
from claude_bottle.backend.base import (
    AUTHORITIES,
    NODE_HOME,
    EnvoyFiles,
    Grant,
    MakeBundle,
    Progress,
    Secrets,
)
from claude_bottle.backend.beside import Beside
from claude_bottle.backend.docker import argv
from claude_bottle.backend.docker.engine import docker
from claude_bottle.backend.docker.enumerate import containers
from claude_bottle.backend.docker.files import Tree, archive, pour
from claude_bottle.backend.docker.plan import DockerPlan
from claude_bottle.backend.seccomp import container_profile
from claude_bottle.errors import BottleError
from claude_bottle.proc import Runner, environment_for
from claude_bottle.sidecars.bundle_spec import BundleSpec, spec_to_json
from claude_bottle.state.trees import remove_trees

_START_SECONDS, _PLACE = 60.0, "authorities.pem"
_QUIET, _LATE_SECONDS = 3, 0.3
_SECCOMP = "seccomp.json"


class Launching:
    """The containers of one bottle while they belong to this process."""

    def __init__(self, plan: DockerPlan, runner: Runner, environment: Mapping[str, str]) -> None:
        self._plan = plan
        self._runner = runner
        self._environment = environment_for(docker(), environment)
        self._attached: list[Attached] = []

    def start(self, secrets: Secrets, envoy: EnvoyFiles, bundle: MakeBundle, progress: Progress) -> None:
        """Raises BottleError; then nothing is left of it but volumes, which `forget` removes."""
        try:
            self._start(secrets, envoy, bundle, progress)
        except BaseException:
            self.abandon()
            raise

    def _start(self, secrets: Secrets, envoy: EnvoyFiles, bundle: MakeBundle, progress: Progress) -> None:
        plan = self._plan
        self._refuse_or_remove_remains()
        self._prepare_folders()
        sidecars = self._attach("the sidecars' container", plan.run_sidecars())
        agent = self._attach("the bottle's container", plan.run_agent(str(plan.request.paths.run / _SECCOMP)))
        made = bundle()
        with open(envoy.authorities, encoding="utf-8") as file:
            authorities = file.read()
        spec = BundleSpec(
            policy=plan.request.policy,
            leaves=made.leaves,
            credentials=made.credentials,
            envoy=(),
            envoy_uid=None,
            authorities=f"{argv.BUNDLE_FOLDER}/{_PLACE}",
            decisions=f"{argv.BUNDLE_LOG}/decisions.jsonl",
        )
        wall = plan.request.limits.wall_time
        sidecars.send({"bundle": spec_to_json(spec), "authorities": authorities, "wall_time": wall})
        given = self._given(secrets)
        agent.tell(f"{len(given)}\n".encode() + given)
        agent.hear(_START_SECONDS)
        began = sidecars.hear(_START_SECONDS)
        progress("containers", float(began.get("ms", 0)))
        with Beside(self._fill):
            agent.hear(_START_SECONDS)
            while not (message := sidecars.hear(_START_SECONDS)).get("ready"):
                progress(str(message["step"]), float(message["ms"]))
            waited = time.monotonic()
        progress("files", (time.monotonic() - waited) * 1000)

    def _attach(self, name: str, command: list[str]) -> Attached:
        attached = Attached(name, command, self._environment)
        self._attached.append(attached)
        return attached

    def _prepare_folders(self) -> None:
        paths = self._plan.request.paths
        for folder in (paths.run, paths.run / "egress", paths.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        if self._plan.facts.local and os.geteuid() == 0:
            for folder in (paths.run / "egress", paths.logs):
                os.chown(folder, self._plan.bundle_uid, self._plan.bundle_uid)
        (paths.run / _SECCOMP).write_text(json.dumps(container_profile(self._plan.facts.machine)))

    def _refuse_or_remove_remains(self) -> None:
        """What ended without being tidied away, of a bottle whose state is this one."""
        found = containers(self._runner, self._plan.names.home_id, self._plan.names.slug)
        if any(item.runs for item in found):
            raise BottleError(f"{self._plan.names.slug} runs already")
        remove_containers(self._runner, [item.name for item in found])

    def _given(self, secrets: Secrets) -> bytes:
        """What the bottle's user may read and not change."""
        authority = next(grant for grant in self._plan.request.grants if grant.target == AUTHORITIES)
        with open(authority.source, "rb") as file:
            authorities = file.read()
        private = "".join(f"{name}={value}\0" for name, value in secrets.environment.items())
        return archive({_PLACE: authorities, os.path.basename(argv.PRIVATE): private.encode()})

    def _fill(self) -> None:
        """The bottle's own files, once: what has been moved in is not there to be moved in again."""
        plan = self._plan
        for grant in plan.copies:
            self._copy(grant)
        trees = [tree for tree in plan.trees() if tree.source.is_dir() and not tree.name.startswith("..")]
        if not trees:
            return
        unpack = ["tar", "-xpf", "-", "-C", NODE_HOME, "--no-same-owner", "--overwrite"]
        command = argv.as_user(plan.names.agent, plan.agent_image_user, *unpack)
        pour(command, self._environment, trees, "the bottle's files cannot be copied in")
        remove_trees(tree.source for tree in trees)

    def _copy(self, grant: Grant) -> None:
        command = argv.as_user(self._plan.names.agent, "0:0", "tar", "-xpf", "-", "-C", grant.target)
        trees = [Tree(Path(grant.source), ".", public=True)]
        pour(command, self._environment, trees, f"{grant.source} cannot be copied in")

    def keep(self) -> None:
        """From now on the containers outlive this process. Raises BottleError."""
        sidecars = self._attached[0]
        sidecars.tell(b"keep\n")
        if not sidecars.hear(_START_SECONDS).get("kept"):
            raise BottleError("the sidecars do not stay")
        self._close()

    def _close(self) -> None:
        for attached in self._attached:
            attached.close()
        self._attached = []

    def abandon(self) -> None:
        """Ends and removes whatever there is by now."""
        self._close()
        with suppress(BottleError):
            self._remove_own()

    def _remove_own(self) -> None:
        """By label: what has the same name and is not ours stays.

        Asked until nothing came twice: a client that was ended may have asked for a container just before.
        """
        quiet = 0
        while quiet < _QUIET:
            found = containers(self._runner, self._plan.names.home_id, self._plan.names.slug)
            remove_containers(self._runner, [item.name for item in found])
            quiet = 0 if found else quiet + 1
            time.sleep(_LATE_SECONDS)


def remove_containers(runner: Runner, names: list[str]) -> None:
    """With their unnamed volumes; fine where they are gone. Raises BottleError."""
    threads = [Beside(partial(_remove, runner, name)) for name in names]
    for thread in threads:
        thread.wait()


def _remove(runner: Runner, name: str) -> None:
    done = runner.run(docker("rm", "--force", "--volumes", name))
    if done.status != 0 and b"No such container" not in done.stderr:
        raise BottleError(f"the container {name} cannot be removed: {done.complaint}")
