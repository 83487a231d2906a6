"""The bundle: all sidecars of one bottle in one process, with Envoy beside it.

Invariant: the gate is served last and only when everything behind it answers. Envoy is started again when it
ends, from the policy in force and confined as before; while it is away nothing passes by it; when it keeps
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

from claude_bottle import __version__
from claude_bottle.errors import BottleError
from claude_bottle.policy.live import live
from claude_bottle.sidecars.bundle_spec import BundleSpec
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.control import ControlServer, listen_control
from claude_bottle.sidecars.decisions import DecisionLog
from claude_bottle.sidecars.egress.envoy import LISTENER_SOCKET
from claude_bottle.sidecars.egress.envoy_start import AUTHZ_SOCKET, ENVOY_CONFIG, ENVOY_LOG, envoy_bootstrap
from claude_bottle.sidecars.egress.serving import Serving
from claude_bottle.sidecars.orders import Orders
from claude_bottle.sidecars.proposed import Proposed
from claude_bottle.sidecars.proposing import Proposing
from claude_bottle.sidecars.reach import Reach, Surroundings
from claude_bottle.sidecars.services import SERVICES, SUPERVISE, Record
from claude_bottle.sidecars.sockets import listen_unix
from claude_bottle.sidecars.supervise.server import Supervise
from claude_bottle.sidecars.supervised import Program, Supervised


class Bundle:
    """Built from its spec, started once, closed once. `failed` is set when it can serve no longer."""

    def __init__(self, spec: BundleSpec, envoy: Child, write_more: Callable[[], None] = lambda: None) -> None:
        """`write_more` writes what Envoy reads besides the bundle's own files."""
        self._spec = spec
        self._log = DecisionLog(spec.decisions)
        self._serving = Serving(spec.authorities, spec.envoy_uid, write_more)
        first = live(spec.policy)
        self._reach = Reach(
            first._replace(routes=first.routes + spec.grants),
            spec.leaves,
            spec.credentials,
            Surroundings(self._log.record, self._listen, self._serving, self._ran_out, spec.supervised),
        )
        self.proposed = Proposed(spec.queue, spec.proposals, self._reach.now, spec.patience)
        self._orders = Orders(self._reach, self.proposed, spec.authority)
        self._record = Record(spec.services)
        self._up = dict.fromkeys((*SERVICES, *([SUPERVISE] if spec.supervise is not None else [])), True)
        self._up |= {"egress": False} | ({SUPERVISE: False} if spec.supervise is not None else {})
        self._envoy = Supervised(
            Program(
                service="egress",
                name="Envoy",
                log=ENVOY_LOG,
                start=self._start_envoy,
                answers=self._envoy_answers,
                tell=self._log.record,
                set_up=partial(self._set_up, "egress"),
            ),
            envoy,
        )
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start_behind(self) -> None:
        """Everything behind the gate, and the operator's way in. Raises BottleError or OSError."""
        self._reach.open()
        await self._reach.authz.serve(self._listen(AUTHZ_SOCKET))
        self._serving.write()
        self.proposed.open()
        if self._spec.control:
            listener = listen_control(self._spec.control)
            ControlServer(self._spec.control_uid, self._orders.handle).serve(listener)
        try:
            await self._envoy.came_up()
        except BottleError as error:
            raise BottleError(f"Envoy did not start: {error.message}", "try it: envoy --version") from error
        self._set_up("egress", True)
        self._keeping = asyncio.get_running_loop().create_task(self._envoy.keep())
        self._keeping.add_done_callback(self._kept)

    def open_gate(self, listener: socket.socket) -> None:
        self._reach.open_gate(listener)

    def open_supervise(self, listener: socket.socket) -> None:
        """Where the agent may propose changes. Nothing of the way out goes through it."""
        assert self._spec.supervise is not None, "the agent may propose none"
        desk = Proposing(self.proposed, self._reach)
        set_up = partial(self._set_up, SUPERVISE)
        self._supervise = Supervise(desk, __version__, port=self._spec.supervise, set_up=set_up)
        self._supervise.serve(listener)

    def close(self) -> None:
        """Ends Envoy; the sockets end with the process."""
        self._envoy.kill()

    def _listen(self, path: str) -> socket.socket:
        listener = listen_unix(path)
        if self._spec.envoy_uid is not None:
            os.chown(path, self._spec.envoy_uid, self._spec.envoy_uid)
        return listener

    def _start_envoy(self) -> Child:
        with suppress(FileNotFoundError):
            os.unlink(LISTENER_SOCKET)
        write_for_envoy(ENVOY_CONFIG, envoy_bootstrap(), self._spec.envoy_uid)
        self._serving.write()
        return Child(list(self._spec.envoy), ENVOY_LOG)

    def _envoy_answers(self) -> bool:
        """Without an inspected route it has nothing to listen for."""
        return not self._serving.told.chains or _answers(LISTENER_SOCKET)

    def _ran_out(self) -> None:
        self.proposed.wake()

    def _set_up(self, name: str, up: bool) -> None:
        """Says so where `list` reads it."""
        self._up[name] = up
        self._record.write(*([key for key, value in self._up.items() if value is it] for it in (True, False)))

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
