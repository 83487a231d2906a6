"""Carries what connects to a bottle's loopback to the bundle outside, where no socket can be handed over.

For a bottle with a kernel of its own (gVisor). Rules. 1. It decides nothing: a connection to the gate's port
becomes one to the bundle's unix socket, and bytes pass unread. 2. It runs as a user that the agent is not,
and only that user may enter the socket's folder. 3. The life line passes through it, so when it ends, so does
the bottle. 4. On the engine's own kernel it does not start: a weaker bottle than was asked for is none.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket

from claude_bottle.sidecars.handing import reach

GATE_SOCKET, LIFE_SOCKET, SUPERVISE_SOCKET = "gate.sock", "life.sock", "supervise.sock"
_PAUSE_SECONDS = 0.2
_CHUNK = 64 << 10
_CONNECTIONS = 384  # more than the gate serves, so that its own answer is heard; two descriptors each
_CALLS = 96  # the same for the supervise sidecar


class Ferry:
    """The listeners inside, and the life line's end outside, which is connected already."""

    def __init__(self, folder: str, gate: int, life: int, outside: str, *supervise: int) -> None:
        """`outside` is the release of the engine's kernel; a port more is the supervise sidecar's.

        Raises OSError where that is the one here, a port is taken, or the bundle does not come.
        """
        if os.uname().release == outside:
            raise OSError(f"this bottle has no kernel of its own, but the engine's, {outside}")
        os.chdir(folder)
        self._gate, self._life, *self._supervise = (
            socket.create_server(("127.0.0.1", port), backlog=512) for port in (gate, life, *supervise)
        )
        self._line = reach(LIFE_SOCKET)  # the bundle makes it last: by now it listens on the others as well

    async def serve(self) -> None:
        """As long as the life line holds."""
        loop = asyncio.get_running_loop()
        self._life.setblocking(False)
        with self._life:
            inner, _ = await loop.sock_accept(self._life)
        served = [loop.create_task(_serve(self._gate, GATE_SOCKET, _CONNECTIONS))]
        served += [loop.create_task(_serve(item, SUPERVISE_SOCKET, _CALLS)) for item in self._supervise]
        await _join(inner, self._line)
        for task in served:
            task.cancel()


async def _serve(listener: socket.socket, path: str, most: int) -> None:
    """Neither of two ports takes the room of the other."""
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(most)
    carried: set[asyncio.Task[None]] = set()
    listener.setblocking(False)
    while True:
        await room.acquire()
        try:
            inner, _ = await loop.sock_accept(listener)
        except OSError:  # it left again, or descriptors are short
            room.release()
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        task = loop.create_task(_carry(inner, path))
        carried.add(task)
        task.add_done_callback(carried.discard)
        task.add_done_callback(lambda _: room.release())


async def _carry(inner: socket.socket, path: str) -> None:
    with inner, socket.socket(socket.AF_UNIX) as outer:
        outer.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(outer, path)
        except OSError:
            return  # the client sees it closed
        await _join(inner, outer)


async def _join(inner: socket.socket, outer: socket.socket) -> None:
    """Until the bundle has closed its end, or the other is gone; then both are closed."""
    with inner, outer:
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for end in (inner, outer):
            end.setblocking(False)
        loop = asyncio.get_running_loop()
        ways = [loop.create_task(_copy(inner, outer)), loop.create_task(_bring(outer, inner))]
        try:
            await asyncio.gather(*ways)
        except OSError:
            pass  # one end is gone, which the other learns by the end of this block
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _bring(outer: socket.socket, inner: socket.socket) -> None:
    """All that the bundle says. Raises OSError when it does not listen either: unix(7), poll(2).

    A client that it has turned away may stay for ever, and must not take the place of another.
    """
    await _copy(outer, inner)
    look = select.poll()
    look.register(outer, 0)
    while True:
        if look.poll(0):
            raise ConnectionResetError("the bundle has closed it")
        await asyncio.sleep(_PAUSE_SECONDS)  # nothing wakes a loop for this alone


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)


def start(arguments: list[str]) -> None:
    """FOLDER GATE_PORT LIFE_PORT KERNEL [SUPERVISE_PORT]. Returns when they are open; a child serves them."""
    folder, gate, life, outside, *more = arguments
    ferry = Ferry(folder, int(gate), int(life), outside, *map(int, more))
    if os.fork():
        return
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        asyncio.run(ferry.serve())
    finally:
        os._exit(1)
