"""The bundle: all sidecars of one bottle in one process, with Envoy beside it.

Invariant: the gate is served last and only when everything behind it answers. A sidecar that dies is
restarted a few times; while it is away nothing passes; when it does not come back the bundle ends, and with
it the bottle.

The bundle runs in its own folder (`run`), so that all socket paths are short and relative.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from functools import partial

from claude_bottle.errors import BottleError
from claude_bottle.policy.routes import decide_connect, decide_request
from claude_bottle.sidecars.bundle_spec import ENVOY_LOG, BundleSpec
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.decisions import DecisionLog
from claude_bottle.sidecars.egress.authz import AuthzServer, Judge
from claude_bottle.sidecars.egress.credentials import credentials_from
from claude_bottle.sidecars.egress.envoy import (
    AUTHZ_SOCKET,
    CLUSTERS_FILE,
    LISTENER_SOCKET,
    LISTENERS_FILE,
    envoy_clusters,
    envoy_listeners,
)
from claude_bottle.sidecars.egress.gate import Gate, unix_stage
from claude_bottle.sidecars.egress.outlets import inspected_chains, inspected_outlets
from claude_bottle.sidecars.pipelock.dialler import Dialler
from claude_bottle.sidecars.sockets import listen_unix

_ENVOY_SECONDS = 15.0
_RESTARTS, _RESTART_WINDOW = 5, 60.0  # so many within so many seconds


class Bundle:
    """Built from its spec, started once, closed once. `failed` is set when it can serve no longer."""

    def __init__(self, spec: BundleSpec, envoy: Child) -> None:
        self._spec = spec
        self._log = DecisionLog(spec.decisions)
        self._envoy = envoy
        self._deaths: list[float] = []
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
        )
        self._authz = AuthzServer(judge)
        await self._authz.serve(self._listen(AUTHZ_SOCKET))
        self._envoy.on_exit(self._envoy_ended)
        uid = self._spec.envoy_uid
        write_for_envoy(CLUSTERS_FILE, envoy_clusters(policy, self._spec.authorities), uid)
        write_for_envoy(LISTENERS_FILE, envoy_listeners(policy, self._spec.leaves), uid)
        if judge.chains:
            await self._envoy_answers()

    def open_gate(self, listener: socket.socket) -> None:
        policy = self._spec.policy
        self._gate = Gate(
            decide=partial(decide_connect, policy),
            version=policy.version,
            record=self._log.record,
            inspected=unix_stage(LISTENER_SOCKET),
            opaque=self._dialler.open,
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

    async def _restart_envoy(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(LISTENER_SOCKET)
        self._envoy = Child(list(self._spec.envoy), ENVOY_LOG)
        self._envoy.on_exit(self._envoy_ended)
        await self._envoy_answers()

    async def _envoy_answers(self) -> None:
        deadline = asyncio.get_running_loop().time() + _ENVOY_SECONDS
        while not _answers(LISTENER_SOCKET):
            if self._envoy.status is not None or asyncio.get_running_loop().time() > deadline:
                raise BottleError(f"Envoy did not start: {_last_line(ENVOY_LOG)}", "try it: envoy --version")
            await asyncio.sleep(0.003)

    def _envoy_ended(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._deaths = [then for then in self._deaths if now - then < _RESTART_WINDOW] + [now]
        self._log.record({"stage": "bundle", "event": "sidecar-ended", "sidecar": "egress"})
        if len(self._deaths) > _RESTARTS:
            self._fail("Envoy keeps ending")
            return
        self._restart = loop.create_task(self._restart_envoy())
        self._restart.add_done_callback(self._restarted)

    def _restarted(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and self._envoy.status is None:
            self._fail("Envoy does not come up again")

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


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError as error:
        return f"its log cannot be read: {error.strerror}"
    return lines[-1] if lines else "it said nothing"
