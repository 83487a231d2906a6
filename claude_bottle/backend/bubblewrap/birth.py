"""How a bottle comes to life: bubblewrap is started, and sockets are opened inside its network.

Invariant: the bottle ends when the process that started it does, whatever ends that process: its programs
lose their parent (PR_SET_PDEATHSIG) and its anchor its input; and the guard is there, should an agent have
made them not to mind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from claude_bottle.backend import linux
from claude_bottle.backend.bubblewrap.guard import Guard, kill_and_wait
from claude_bottle.backend.bubblewrap.stage import Stage, enter_stage

_READY = b"ready\n"
# Says when it is up, then waits for its input to end. No exec: its environment could not be read meanwhile.
ANCHOR = ("/bin/sh", "-c", "echo ready; read end")
_READY_SECONDS = 20


class Bottle(NamedTuple):
    """The running bubblewrap: its process, the first process inside, and what holds it."""

    process: int
    init: int
    init_pidfd: int
    anchor: int
    hold: int  # the bottle ends when this descriptor closes


def spawn_bottle(
    bwrap: str, arguments: list[str], stage: Stage, cgroups: list[str], filter_path: str, guard: Guard
) -> tuple[int, int, int, int]:
    """Starts bubblewrap. Returns its process, the info pipe, its output and the anchor's input.

    All three are pipes: what stays open inside leads to nothing of the host's, not even a log.
    """
    info_out, info_in = os.pipe()
    ready_out, ready_in = os.pipe()
    hold_out, hold_in = os.pipe()
    go_out, go_in = os.pipe()
    options = _memory_file("arguments", b"".join(os.fsencode(item) + b"\0" for item in arguments))
    program = os.open(filter_path, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        try:
            os.close(go_in)
            os.setsid()
            if not os.read(go_out, 1):
                os._exit(1)  # the keeper has died, and the guard does not know of this process
            linux.set_dumpable(True)  # else its own /proc files, which name its ids, are not its own
            for target, descriptor in ((0, hold_out), (1, ready_in), (2, ready_in)):
                os.dup2(descriptor, target)
            for directory in cgroups:
                with open(os.path.join(directory, "cgroup.procs"), "w") as file:
                    file.write("0")
            enter_stage(stage)
            for descriptor in (info_in, options, program):
                os.set_inheritable(descriptor, True)
            fixed = ["--info-fd", str(info_in), "--args", str(options), "--seccomp", str(program)]
            os.execve(bwrap, [bwrap, *fixed, *ANCHOR], {})
        except BaseException as error:  # noqa: BLE001 - a child must never return into its parent's code
            os.write(2, f"cannot start bubblewrap: {error}\n".encode())
        finally:
            os._exit(1)
    guard.watch_group(child)
    os.write(go_in, b"g")
    for descriptor in (info_in, ready_in, hold_out, go_out, go_in, options, program):
        os.close(descriptor)
    return child, info_out, ready_out, hold_in


def _memory_file(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def end_bottle(process: int, bottle: Bottle | None) -> None:
    """Kills bubblewrap and everything inside.

    The whole group: before it is set up, the first process inside waits for bubblewrap, and would do so for
    ever.
    """
    if bottle is not None:
        kill_and_wait(bottle.init_pidfd)
    with suppress(ProcessLookupError):  # it leads no group yet
        os.killpg(process, signal.SIGKILL)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def await_bottle(process: int, info: int, output: int, hold: int) -> Bottle:
    """Waits until bubblewrap is set up and its anchor runs. Raises OSError with its last words."""
    told = _read_until(info, lambda data: data.rstrip().endswith(b"}"))
    if told is None or _read_until(output, lambda data: data.endswith(_READY)) is None:
        raise OSError(f"bubblewrap ended at once: {_last_words(output)}")
    init = int(json.loads(told)["child-pid"])
    init_pidfd = os.pidfd_open(init)
    os.close(info)
    os.close(output)
    with open(f"/proc/{init}/task/{init}/children") as file:
        anchor = int(file.read().split()[0])
    return Bottle(process, init, init_pidfd, anchor, hold)


def _read_until(descriptor: int, complete: Callable[[bytes], bool]) -> bytes | None:
    """None where the other side closed before. What it said then stands in the log."""
    data, deadline = b"", time.monotonic() + _READY_SECONDS
    while not complete(data):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise OSError("bubblewrap did not come up in time")
        part = os.read(descriptor, 4096)
        if not part:
            os.write(2, data)
            return None
        data += part
    return data


def _last_words(output: int) -> str:
    words = b""
    while part := os.read(output, 4096):
        words += part
    os.write(2, words)
    return words.decode(errors="replace").strip().rpartition("\n")[2] or "its last words are in the log"


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
        except BaseException as error:  # noqa: BLE001 - a child must never return into its parent's code
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
