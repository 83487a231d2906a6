"""The process that keeps one bottle alive: parent of bubblewrap, home of the bundle.

Rules. 1. It is born from `start`, outlives it, and holds the lock on the run directory while the bottle lives.
2. Until it is told "keep" the bottle belongs to the starting command: if that ends, so does the bottle; thus no
unproved bottle outlives its start. 3. When the keeper dies, however it dies, the kernel ends the bottle
(its programs lose their parent and their input) and with the listening sockets the way out.
4. When the bottle or the bundle ends, the keeper ends.

It talks to the starting command in JSON lines: steps with their times, then "ready", or an error.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from claude_bottle.backend.bubblewrap import entry, linux
from claude_bottle.backend.bubblewrap.stage import Stage, enter_stage, from_json

ANCHOR = ("/bin/sh", "-c", "echo; exec cat")  # says when it is up, then waits for its input to end
_READY_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Bottle:
    """The running bubblewrap: its process, the first process inside, and what holds it."""

    process: int
    init: int
    anchor: int
    hold: int  # the bottle ends when this descriptor closes


class Reporter:
    """Tells the starting command how far the start is; silent once nobody listens."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def step(self, name: str) -> None:
        now = time.monotonic()
        self.say(step=name, ms=round((now - self._last) * 1000, 1))
        self._last = now

    def say(self, **message: Any) -> None:
        try:
            os.write(1, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            pass  # the starting command is gone; rule 2 decides what follows


def spawn_bottle(
    bwrap: str, arguments: list[str], stage: Stage, cgroups: list[str], filter_path: str
) -> tuple[int, int, int, int]:
    """Starts bubblewrap. Returns its process, the info pipe, the anchor's output and the anchor's input."""
    info_out, info_in = os.pipe()
    ready_out, ready_in = os.pipe()
    hold_out, hold_in = os.pipe()
    options = _memory_file("arguments", b"".join(item.encode() + b"\0" for item in arguments))
    program = os.open(filter_path, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        try:
            linux.die_with_parent()
            linux.set_dumpable(True)  # else its own /proc files, which name its ids, are not its own
            os.setsid()
            for target, descriptor in ((0, hold_out), (1, ready_in)):
                os.dup2(descriptor, target)
            for directory in cgroups:
                with open(os.path.join(directory, "cgroup.procs"), "w") as file:
                    file.write("0")
            enter_stage(stage)
            for descriptor in (info_in, options, program):
                os.set_inheritable(descriptor, True)
            fixed = ["--info-fd", str(info_in), "--args", str(options), "--seccomp", str(program)]
            os.execve(bwrap, [bwrap, *fixed, *ANCHOR], {})
        except BaseException as error:
            os.write(2, f"cannot start bubblewrap: {error}\n".encode())
        finally:
            os._exit(1)
    for descriptor in (info_in, ready_in, hold_out, options, program):
        os.close(descriptor)
    return child, info_out, ready_out, hold_in


def _memory_file(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def await_bottle(process: int, info: int, ready: int, hold: int) -> Bottle:
    """Waits until bubblewrap is set up and its anchor runs. Raises OSError when it is not to be."""
    told = json.loads(_read_all(info, lambda data: data.rstrip().endswith(b"}")))
    init = int(told["child-pid"])
    _read_all(ready, lambda data: data.endswith(b"\n"))
    os.close(info)
    os.close(ready)
    with open(f"/proc/{init}/task/{init}/children") as file:
        anchor = int(file.read().split()[0])
    return Bottle(process, init, anchor, hold)


def _read_all(descriptor: int, complete: Any) -> bytes:
    import select

    data, deadline = b"", time.monotonic() + _READY_SECONDS
    while not complete(data):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise OSError("bubblewrap did not come up in time")
        part = os.read(descriptor, 4096)
        if not part:
            raise OSError("bubblewrap ended at once; its last words are in the log")
        data += part
    return data


def open_listeners(init: int, addresses: dict[str, tuple[str, int]]) -> dict[str, socket.socket]:
    """Sockets that listen inside the bottle's network namespace, held outside.

    A short-lived child joins the namespace, opens them and hands them over: unix(7), SCM_RIGHTS.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            _enter_network(init)
            opened = [socket.create_server(address, backlog=512) for address in addresses.values()]
            socket.send_fds(theirs, [b"l"], [item.fileno() for item in opened])
            os._exit(0)
        except BaseException as error:
            os.write(2, f"cannot listen inside the bottle: {error}\n".encode())
        finally:
            os._exit(1)
    theirs.close()
    with ours:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, len(addresses))
    os.waitpid(child, 0)
    if len(descriptors) != len(addresses):
        raise OSError("no listening sockets inside the bottle")
    return {name: socket.socket(fileno=fd) for name, fd in zip(addresses, descriptors, strict=True)}


def _enter_network(init: int) -> None:
    import fcntl

    network = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    owner = fcntl.ioctl(network, linux.NS_GET_USERNS)
    linux.setns(owner, linux.CLONE_NEWUSER)
    linux.setns(network, linux.CLONE_NEWNET)


def write_entry(bottle: Bottle, spec: dict[str, Any]) -> None:
    facts = entry.Facts(
        init=bottle.init,
        born=entry.start_time(bottle.init),
        anchor=bottle.anchor,
        anchor_born=entry.start_time(bottle.anchor),
        cgroups=tuple(spec["cgroups"]),
        rlimits=tuple((name, value) for name, value in spec["rlimits"]),
    )
    temporary = f"{spec['entry']}.new"
    with open(temporary, "w") as file:
        file.write(entry.render(facts))
    os.rename(temporary, spec["entry"])


class Keeper:
    """One bottle's life, from the spec to its end."""

    def __init__(self, spec: dict[str, Any], reporter: Reporter) -> None:
        self._spec = spec
        self._say = reporter
        self._kept = False
        self._over: Any = None

    async def live(self) -> str:
        """Starts all, serves until something ends it, and returns why it ended."""
        import asyncio

        from claude_bottle.sidecars.bundle import Bundle
        from claude_bottle.sidecars.bundle_spec import spec_from_json

        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, "stopped")
        loop.add_reader(0, self._hear)
        bundle = Bundle(spec_from_json(self._spec["bundle"]))
        bundle.failed.add_done_callback(lambda future: self._end(future.result()))
        started = spawn_bottle(
            self._spec["bwrap"],
            self._spec["arguments"],
            from_json(self._spec["stage"]),
            self._spec["cgroups"],
            self._spec["filter"],
        )
        try:
            await bundle.start_behind()
            self._say.step("sidecars")
            bottle = await_bottle(*started)
            self._say.step("bottle")
            loop.add_reader(os.pidfd_open(bottle.process), self._end, "the bottle ended")
            bundle.open_gate(open_listeners(bottle.init, {"egress": ("127.0.0.1", self._spec["port"])})["egress"])
            write_entry(bottle, self._spec)
            self._say.step("gate")
            self._say.say(ready=True)
            if self._spec["wall_time"] is not None:
                loop.call_later(self._spec["wall_time"], self._end, "its wall time is over")
            return str(await self._over)
        finally:
            os.kill(started[0], signal.SIGKILL)
            os.waitpid(started[0], 0)
            bundle.close()

    def _hear(self) -> None:
        """The starting command says "keep", or is gone."""
        import asyncio

        heard = os.read(0, 100)
        if heard.strip() == b"keep":
            self._kept = True
        elif not heard:
            asyncio.get_running_loop().remove_reader(0)
            if not self._kept:
                self._end("the starting command ended before the bottle was proved")

    def _end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)


def _read_line() -> bytes:
    """One line of standard input, byte-exact, so that what follows is left for the loop."""
    data = b""
    while not data.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            raise OSError("no spec came")
        data += part
    return data


def main(run: str) -> int:
    import resource

    reporter = Reporter()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    os.chdir(run)
    linux.set_process_name("claude-bottle")
    import claude_bottle.sidecars.bundle  # noqa: F401 - while the starting command still prepares the spec

    reporter.step("imports")
    linux.set_dumpable(False)
    try:
        spec = json.loads(_read_line())
        lock = entry.take_lock(os.path.dirname(run))
    except BlockingIOError:
        reporter.say(error="another process keeps this bottle already")
        return 1
    except (OSError, ValueError) as error:
        reporter.say(error=f"no start: {error}")
        return 1
    status = _live(spec, reporter)
    os.close(lock)
    return status


def _live(spec: dict[str, Any], reporter: Reporter) -> int:
    import asyncio
    from contextlib import suppress

    from claude_bottle.backend.bubblewrap import cgroups
    from claude_bottle.errors import BottleError

    try:
        reason = asyncio.run(Keeper(spec, reporter).live())
        os.write(2, f"ended: {reason}\n".encode())
        return 0
    except BottleError as error:
        reporter.say(error=error.message, hint=error.hint)
    except Exception as error:
        reporter.say(error=f"{type(error).__name__}: {error}")
    finally:
        with suppress(FileNotFoundError):
            os.unlink(spec["entry"])
        cgroups.remove(tuple(spec["cgroups"]))
    return 1


def start(arguments: list[str]) -> None:
    sys.exit(main(arguments[0]))
