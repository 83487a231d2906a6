"""The bundle as the only program of a container that shares nothing with the bottle but what it is handed.

Rules. 1. Until it is told "keep" it belongs to the command that started it: if that ends, or says "alive" no
more, so does the bundle. 2. Its listening sockets are opened in the bottle's network by another program,
which passes them on and ends (`sidecars.handing`). 3. One of them is the life line: the bottle's first
process holds a connection to it, the only one that is ever accepted. When the bundle ends, so does that
connection, and the bottle with it; when the bottle ends, so does the bundle. Neither needs any power over
the engine for that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.bundle import Bundle
from claude_bottle.sidecars.bundle_spec import spec_from_json
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.ferry import GATE_SOCKET, LIFE_SOCKET, SUPERVISE_SOCKET
from claude_bottle.sidecars.handing import HAND_SOCKET
from claude_bottle.sidecars.lines import SILENCE_SECONDS, Lines, Reporter
from claude_bottle.sidecars.sockets import listen_unix

AUTHORITIES = "authorities.pem"
_HANDED_SECONDS = 60.0


class Container:
    """One bundle's life, from its spec to its end."""

    def __init__(
        self, spec: dict[str, Any], envoy: Child, hand: str, lines: Lines, reporter: Reporter
    ) -> None:
        self._spec = spec
        self._hand = hand
        self._envoy = envoy
        self._lines = lines
        self._say = reporter
        self._kept = False

    async def live(self) -> str:
        """Serves until something ends it, and returns why it ended."""
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[str] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, "stopped")
        loop.add_reader(0, self._hear)
        bundle = Bundle(spec_from_json(self._spec["bundle"]), self._envoy, self._write_authorities)
        bundle.failed.add_done_callback(lambda future: self._end(future.result()))
        try:
            opened = _be_ferried if self._spec["ferried"] else _be_handed
            supervised = self._spec["bundle"]["supervise"] is not None
            handed = loop.create_task(opened(self._hand, supervised))
            await bundle.start_behind()
            self._say.step("sidecars")
            gate, life, *supervise = await self._unless_over(handed)
            line = await self._unless_over(loop.create_task(_hold(life)))
            loop.add_reader(line.fileno(), self._end, "the bottle ended")
            for listener in supervise:
                bundle.open_supervise(listener)
            bundle.open_gate(gate)
            self._say.step("gate")
            self._say.say(ready=True)
            if self._spec["wall_time"] is not None:
                loop.call_later(self._spec["wall_time"], self._end, "its wall time is over")
            return await self._over
        finally:
            bundle.close()

    def _write_authorities(self) -> None:
        """Envoy could have written there as well: it shares the bundle's user."""
        write_for_envoy(AUTHORITIES, self._spec["authorities"], None)

    async def _unless_over(self, task: asyncio.Task[Any]) -> Any:
        await asyncio.wait((task, self._over), return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            task.cancel()
            raise BottleError(self._over.result())
        return task.result()

    def _hear(self) -> None:
        """The starting command says "keep", or is gone."""
        for line in self._lines.take():
            if line == b"keep":
                self._kept = True
                self._say.say(kept=True)
            signal.alarm(0 if self._kept else SILENCE_SECONDS)
        if self._lines.ended:
            asyncio.get_running_loop().remove_reader(0)
            if not self._kept:
                self._end("the starting command ended before the bottle was proved")

    def _end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)


async def _be_handed(folder: str, supervised: bool) -> list[socket.socket]:
    """The sockets that listen inside the bottle, unix(7) SCM_RIGHTS: the gate's, the life line's, and the one
    of the supervise sidecar where there is one."""
    loop = asyncio.get_running_loop()
    path = os.path.join(folder, HAND_SOCKET)
    server = listen_unix(path)
    os.chmod(path, 0o660)  # who hands over is of the same group, and nobody else inside is
    server.setblocking(False)
    with server:
        async with asyncio.timeout(_HANDED_SECONDS):
            connection, _ = await loop.sock_accept(server)
    os.unlink(path)
    with connection:
        connection.settimeout(_HANDED_SECONDS)
        _, descriptors, _, _ = await loop.run_in_executor(None, socket.recv_fds, connection, 1, 3)
    if len(descriptors) != (3 if supervised else 2):
        raise BottleError("no listening sockets came from inside the bottle")
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


async def _be_ferried(folder: str, supervised: bool) -> list[socket.socket]:
    """The same, opened here, for the ferry inside. Of those in there, only who hands over may connect."""
    names = (
        *([SUPERVISE_SOCKET] if supervised else []),
        GATE_SOCKET,
        LIFE_SOCKET,
    )  # the ferry awaits the last
    opened = {name: listen_unix(os.path.join(folder, name)) for name in names}
    for name in names:
        os.chmod(os.path.join(folder, name), 0o660)
    return [opened[name] for name in (GATE_SOCKET, LIFE_SOCKET, SUPERVISE_SOCKET) if name in opened]


async def _hold(life: socket.socket) -> socket.socket:
    """The first to connect is the bottle's first process: no other program runs in it yet."""
    loop = asyncio.get_running_loop()
    life.setblocking(False)
    with life:
        async with asyncio.timeout(_HANDED_SECONDS):
            connection, _ = await loop.sock_accept(life)
    return connection
