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
import json
import os
import signal
import socket
from typing import Any, NoReturn

from claude_bottle.errors import BottleError
from claude_bottle.sidecars.bundle import Bundle
from claude_bottle.sidecars.bundle_spec import ENVOY_CONFIG, ENVOY_LOG, spec_from_json
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.confine import confined, set_undumpable
from claude_bottle.sidecars.egress.envoy import CLUSTERS_FILE, LISTENERS_FILE, envoy_argv, envoy_bootstrap
from claude_bottle.sidecars.ferry import GATE_SOCKET, LIFE_SOCKET, SUPERVISE_SOCKET
from claude_bottle.sidecars.handing import HAND_SOCKET
from claude_bottle.sidecars.lines import Lines, Reporter
from claude_bottle.sidecars.sockets import listen_unix

AUTHORITIES = "authorities.pem"
_HANDED_SECONDS = 60.0
_SILENCE_SECONDS = 20  # then the kernel ends it (SIGALRM), and Envoy with it


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
            signal.alarm(0 if self._kept else _SILENCE_SECONDS)
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


def _spec(lines: Lines) -> dict[str, Any]:
    while (line := lines.next()) == b"alive":
        signal.alarm(_SILENCE_SECONDS)
    signal.alarm(_SILENCE_SECONDS)
    found: dict[str, Any] = json.loads(line)
    return found


def start(arguments: list[str]) -> NoReturn:
    """FOLDER LOG_FOLDER HAND_FOLDER ENVOY FILTER"""
    os._exit(main(*arguments))


def main(folder: str, log_folder: str, hand: str, envoy: str, envoy_filter: str) -> int:
    signal.alarm(_SILENCE_SECONDS)
    reporter, lines = Reporter(), Lines()
    os.umask(0o077)
    set_undumpable()
    os.chdir(folder)
    log = os.open(os.path.join(log_folder, "bundle.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    empty: dict[str, object] = {"resources": []}
    for name, content in (
        (ENVOY_CONFIG, envoy_bootstrap()),
        (CLUSTERS_FILE, empty),
        (LISTENERS_FILE, empty),
    ):
        write_for_envoy(name, content, None)
    argv = confined(envoy_filter, envoy_argv(envoy, ENVOY_CONFIG))
    try:
        child = Child(argv, ENVOY_LOG)
        reporter.step("bundle")
        spec = _spec(lines)
        spec["bundle"]["envoy"] = argv
        reason = asyncio.run(Container(spec, child, hand, lines, reporter).live())
    except BottleError as error:
        reporter.say(error=error.message, hint=error.hint)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the starting command must hear of it
        reporter.say(error=f"{type(error).__name__}: {error}")
        return 1
    os.write(2, f"ended: {reason}\n".encode())
    return 0
