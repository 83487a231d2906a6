"""The bundle: all sidecars of one bottle in one process, with Envoy beside it.

Invariant: the gate is served last and only when everything behind it answers. Envoy is started again when it
ends, from the same snapshot and confined as before; while it is away nothing passes by it; when it keeps
ending the bundle ends, and with it the bottle. Whatever else serves lives and dies with this process.

The bundle runs in its own folder (`run`), so that all socket paths are short and relative.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from claude_bottle.errors import BottleError
from claude_bottle.policy.routes import decide_connect, decide_request
from claude_bottle.sidecars.bundle_spec import ENVOY_CONFIG, ENVOY_LOG, BundleSpec
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.decisions import DecisionLog
from claude_bottle.sidecars.egress.authz import AuthzServer, Judge
from claude_bottle.sidecars.egress.credentials import credentials_from
from claude_bottle.sidecars.egress.envoy import (
    AUTHZ_SOCKET,
    CLUSTERS_FILE,
    LISTENER_SOCKET,
    LISTENERS_FILE,
    envoy_bootstrap,
    envoy_clusters,
    envoy_listeners,
)
from claude_bottle.sidecars.egress.gate import Gate, unix_stage
from claude_bottle.sidecars.egress.outlets import inspected_chains, inspected_outlets
from claude_bottle.sidecars.pipelock.dialler import Dialler
from claude_bottle.sidecars.services import SERVICES, Record
from claude_bottle.sidecars.sockets import listen_unix
from claude_bottle.sidecars.supervised import Program, Supervised


class Bundle:
    """Built from its spec, started once, closed once. `failed` is set when it can serve no longer."""

    def __init__(self, spec: BundleSpec, envoy: Child, write_more: Callable[[], None] = lambda: None) -> None:
        """`write_more` writes what Envoy reads besides the bundle's own files."""
        self._spec = spec
        self._write_more = write_more
        self._log = DecisionLog(spec.decisions)
        self._up = Record(spec.services)
        self._envoy = Supervised(
            Program(
                service="egress",
                name="Envoy",
                log=ENVOY_LOG,
                start=self._start_envoy,
                answers=self._envoy_answers,
                tell=self._log.record,
                set_up=self._set_egress,
            ),
            envoy,
        )
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start_behind(self) -> None:
        """Everything behind the gate. Raises BottleError or OSError."""
        policy = self._spec.policy
        decide = partial(decide_connect, policy)
        self._dialler = Dialler(decide=decide, version=policy.version, record=self._log.record)
        for outlet in inspected_outlets(policy):
            self._dialler.serve(self._listen(outlet.socket), outlet.target)
        judge = Judge(
            decide=partial(decide_request, policy),
            credential_for=credentials_from(self._spec.credentials),
            record=self._log.record,
            chains=inspected_chains(policy),
            version=policy.version,
            supervised=self._spec.supervised,
        )
        self._authz = AuthzServer(judge)
        await self._authz.serve(self._listen(AUTHZ_SOCKET))
        self._configure_envoy()
        try:
            await self._envoy.came_up()
        except BottleError as error:
            raise BottleError(f"Envoy did not start: {error.message}", "try it: envoy --version") from error
        self._set_egress(True)
        self._keeping = asyncio.get_running_loop().create_task(self._envoy.keep())
        self._keeping.add_done_callback(self._kept)

    def open_gate(self, listener: socket.socket) -> None:
        policy = self._spec.policy
        self._gate = Gate(
            decide=partial(decide_connect, policy),
            version=policy.version,
            record=self._log.record,
            inspected=unix_stage(LISTENER_SOCKET),
            opaque=self._dialler.open,
            supervised=self._spec.supervised,
        )
        self._gate.serve(listener)

    def close(self) -> None:
        """Ends Envoy; the sockets end with the process."""
        self._envoy.kill()

    def _listen(self, path: str) -> socket.socket:
        listener = listen_unix(path)
        if self._spec.envoy_uid is not None:
            os.chown(path, self._spec.envoy_uid, self._spec.envoy_uid)
        return listener

    def _configure_envoy(self) -> None:
        """From the snapshot: whoever took over the Envoy that ended could write its files."""
        policy, uid = self._spec.policy, self._spec.envoy_uid
        self._write_more()
        write_for_envoy(CLUSTERS_FILE, envoy_clusters(policy, self._spec.authorities), uid)
        write_for_envoy(LISTENERS_FILE, envoy_listeners(policy, self._spec.leaves), uid)

    def _start_envoy(self) -> Child:
        with suppress(FileNotFoundError):
            os.unlink(LISTENER_SOCKET)
        write_for_envoy(ENVOY_CONFIG, envoy_bootstrap(), self._spec.envoy_uid)
        self._configure_envoy()
        return Child(list(self._spec.envoy), ENVOY_LOG)

    def _envoy_answers(self) -> bool:
        """Without an inspected route it has nothing to listen for."""
        return not inspected_chains(self._spec.policy) or _answers(LISTENER_SOCKET)

    def _set_egress(self, up: bool) -> None:
        self._up.write(name for name in SERVICES if up or name != "egress")

    def _kept(self, task: asyncio.Task[str]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        self._fail(task.result() if error is None else f"Envoy is not watched any more: {error!r}")

    def _fail(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_result(reason)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
