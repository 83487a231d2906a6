"""The process that keeps one bottle alive: parent of bubblewrap, home of the bundle.

Rules. 1. It is born from `start`, outlives it, and holds the lock on the run directory while the bottle
lives. 2. Until it is told "keep" the bottle belongs to the starting command: if that ends, so does the
bottle; thus no unproved bottle outlives its start. 3. When the keeper dies, however it dies, the kernel
ends the bottle (its programs lose their parent and their input) and with the listening sockets the way out.
4. When the bottle or the bundle ends, the keeper ends.

Envoy is the same for every bottle, so it is started before there is one: in a cradle, which becomes the
bottle's once the lock is taken.

It talks to the starting command in JSON lines: steps with their times, then "ready", or an error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from claude_bottle.backend import linux
from claude_bottle.backend.bubblewrap import cradle, entry
from claude_bottle.backend.bubblewrap.birth import (
    Bottle,
    await_bottle,
    end_bottle,
    open_listeners,
    spawn_bottle,
)
from claude_bottle.backend.bubblewrap.guard import Guard
from claude_bottle.backend.bubblewrap.lock import take_lock
from claude_bottle.backend.bubblewrap.stage import from_json
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.lines import Lines, Reporter
from claude_bottle.sidecars.services import SUPERVISE

if TYPE_CHECKING:
    from claude_bottle.sidecars.bundle import Bundle

_WATCH_SECONDS = 2.0


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

    def __init__(self, spec: dict[str, Any], envoy: Child, lines: Lines, reporter: Reporter) -> None:
        self._spec = spec
        self._envoy = envoy
        self._say = reporter
        self._kept = False
        self._lines = lines
        self._over: Any = None

    async def live(self) -> str:
        """Starts all, serves until something ends it, and returns why it ended."""
        import asyncio

        from claude_bottle.sidecars.bundle import Bundle
        from claude_bottle.sidecars.bundle_spec import spec_from_json

        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        guard = Guard()
        started = spawn_bottle(
            self._spec["bwrap"],
            self._spec["arguments"],
            from_json(self._spec["stage"]),
            self._spec["cgroups"],
            self._spec["filter"],
            guard,
        )
        bundle = bottle = None
        try:
            bundle = Bundle(spec_from_json(json.loads(self._lines.next())), self._envoy)
            bundle.failed.add_done_callback(lambda future: self._end(future.result()))
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._end, "stopped")
            loop.add_reader(0, self._hear)
            await bundle.start_behind()
            self._say.step("sidecars")
            bottle = await_bottle(*started)
            self._say.step("bottle")
            loop.add_reader(os.pidfd_open(bottle.process), self._end, "the bottle ended")
            guard.watch_first(bottle.init_pidfd)
            loop.add_reader(guard.pidfd, self._end, "its guard ended")
            self._open(bundle, bottle)
            write_entry(bottle, self._spec)
            self._say.step("gate")
            self._say.say(ready=True)
            self._watch_folder()
            if self._spec["wall_time"] is not None:
                loop.call_later(self._spec["wall_time"], self._end, "its wall time is over")
            return str(await self._over)
        finally:
            end_bottle(started[0], bottle)
            guard.release()
            if bundle is not None:
                bundle.close()

    def _open(self, bundle: Bundle, bottle: Bottle) -> None:
        """What the bottle reaches of its sidecars: the gate last."""
        ports = {"egress": self._spec["port"], SUPERVISE: self._spec["supervise_port"]}
        addresses = {name: ("127.0.0.1", port) for name, port in ports.items() if port is not None}
        listeners = open_listeners(bottle.init, addresses)
        if SUPERVISE in listeners:
            bundle.open_supervise(listeners[SUPERVISE])
        bundle.open_gate(listeners["egress"])

    def _hear(self) -> None:
        """The starting command asks the probe's questions, says "keep", or is gone."""
        import asyncio

        for line in self._lines.take():
            if line == b"keep":
                self._kept = True
            else:
                Probing(self._spec["run"], line, self._say).begin()
        if self._lines.ended:
            asyncio.get_running_loop().remove_reader(0)
            if not self._kept:
                self._end("the starting command ended before the bottle was proved")

    def _watch_folder(self) -> None:
        """A bottle whose state folder was removed can be found by nobody, so it must not go on."""
        import asyncio

        if not os.path.exists(self._spec["entry"]):
            self._end("its state folder is gone")
        asyncio.get_running_loop().call_later(_WATCH_SECONDS, self._watch_folder)

    def _end(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)


class Probing:
    """The probe, run by a child of the keeper that enters the bottle while the keeper's loop serves the gate.

    The child is undumpable and enters before any program of an agent runs; no interpreter has to start for
    it.
    """

    def __init__(self, run: str, questions: bytes, reporter: Reporter) -> None:
        self._run = run
        self._questions = questions
        self._say = reporter
        self._answers = b""

    def begin(self) -> None:
        import asyncio

        self._output, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            self._in_child(theirs)
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._output, self._gather, child)

    def _in_child(self, output: int) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output, 1)
            from claude_bottle.backend.bubblewrap.enter import Inside, enter
            from claude_bottle.backend.probe import answers_as_json

            questions = json.loads(self._questions)

            def become(_: dict[bytes, bytes]) -> NoReturn:
                os.write(1, answers_as_json(questions).encode())
                os._exit(0)

            os._exit(enter(self._run, Inside(become)))
        except BaseException as error:  # noqa: BLE001 - a child must never return into the keeper's loop
            os.write(2, f"the probe cannot run: {error}\n".encode())
        finally:
            os._exit(1)

    def _gather(self, child: int) -> None:
        import asyncio

        part = os.read(self._output, 65536)
        self._answers += part
        if part:
            return
        asyncio.get_running_loop().remove_reader(self._output)
        os.close(self._output)
        _, status = os.waitpid(child, 0)
        self._say.say(probed=self._answers.decode(errors="replace"), status=os.waitstatus_to_exitcode(status))


def main() -> int:
    """Four lines come from the starting command: for Envoy; where the bottle is; what it is; its sidecars.

    Between the first two there is time to load everything, and bubblewrap starts before the last.
    """
    import resource

    reporter, lines = Reporter(), Lines()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    linux.set_process_name("claude-bottle")
    linux.set_dumpable(False)
    try:
        start = json.loads(lines.next())
        with _early_envoy(start) as envoy:
            _load()  # while Envoy comes up

            lock = _take_over(start["cradle"], json.loads(lines.next()))
            reporter.step("keeper")
            status = _live(json.loads(lines.next()), envoy, lines, reporter)
    except BlockingIOError:
        reporter.say(error="another process keeps this bottle already")
        return 1
    except (OSError, ValueError, KeyError) as error:
        reporter.say(error=f"no start: {error}")
        return 1
    os.close(lock)
    return status


@contextmanager
def _early_envoy(start: dict[str, Any]) -> Iterator[Child]:
    """Envoy, and the folder that it comes up in. Afterwards neither is left where it was."""
    used = cradle.make(start["cradle"], start["uid"])
    envoy = None
    try:
        os.chdir(start["cradle"])
        for name, content in start["files"].items():
            write_for_envoy(name, content, start["uid"])
        envoy = Child(start["argv"], start["log"])
        yield envoy
    finally:
        if envoy is not None:
            envoy.kill()
        cradle.remove(start["cradle"])
        os.close(used)


def _load() -> None:
    """All that the keeper, and the probe that it forks, will need. What is loaded is never garbage."""
    import gc

    gc.disable()
    import ssl  # noqa: F401 - for whoever uses it later

    import claude_bottle.backend.bubblewrap.enter
    import claude_bottle.backend.probe
    import claude_bottle.sidecars.bundle  # noqa: F401 - as above

    gc.freeze()
    gc.enable()


def _take_over(place: str, begin: dict[str, Any]) -> int:
    """Locks the bottle's run directory, and only then moves Envoy's folder there. Raises OSError."""
    _log_to(begin["log"])
    lock = take_lock(begin["run"])
    os.rename(place, begin["folder"])
    return lock


def _log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)


def _live(spec: dict[str, Any], envoy: Child, lines: Lines, reporter: Reporter) -> int:
    import asyncio

    from claude_bottle.backend.bubblewrap import cgroups
    from claude_bottle.errors import BottleError

    try:
        reason = asyncio.run(Keeper(spec, envoy, lines, reporter).live())
        os.write(2, f"ended: {reason}\n".encode())
        return 0
    except BottleError as error:
        reporter.say(error=error.message, hint=error.hint)
    except Exception as error:  # noqa: BLE001 - whatever it is, the starting command must hear of it
        reporter.say(error=f"{type(error).__name__}: {error}")
    finally:
        with suppress(FileNotFoundError):
            os.unlink(spec["entry"])
        cgroups.remove(tuple(spec["cgroups"]))
    return 1


def start(_: list[str]) -> None:
    sys.exit(main())
