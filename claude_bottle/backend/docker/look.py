"""What can be seen of running bottles: on this host if their containers run here, else by the engine.

Invariant: whether the engine's processes are this host's is seen, not believed: a container's whole identity
stands in the control group of a process of this host, or it does not.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_bottle.backend.base import CLAUDE, NODE_HOME, Look, Program
from claude_bottle.backend.docker.api import EngineError, parsed
from claude_bottle.backend.docker.enumerate import Container, containers
from claude_bottle.backend.processes import memory_of_group, programs_by, read
from claude_bottle.backend.sessions import ARCHIVE_BYTES, FOLDER, from_archive, read_sessions
from claude_bottle.errors import BottleError
from claude_bottle.state.identity import identity
from claude_bottle.state.paths import Home
from claude_bottle.state.store import Broken
from claude_bottle.state.store import read as read_state

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

_SECONDS = 2.0  # for each question about one bottle
_AT_ONCE = 8
_IDENTITY = 64  # characters


def look(engine: Engine, home: Home, slugs: Sequence[str]) -> Iterator[tuple[str, Look]]:
    wanted = set(slugs)
    found = [item for item in containers(engine, identity(home.root)) if item.slug in wanted]
    coming = {item.slug for item in found if item.state == "created"}
    agents = {item.slug: item for item in found if item.role == "agent" and item.runs}
    for slug in sorted(coming):
        agents.pop(slug, None)
        yield slug, Look(ready=False)
    here = programs_by(container_of, {item.identity for item in agents.values()})
    asked: queue.Queue[tuple[str, Look] | None] = queue.Queue()
    far: list[Container] = []
    for slug, agent in agents.items():
        programs = here.get(agent.identity)
        if programs and home.bottle(slug).sessions.is_dir():
            yield slug, _seen_here(home, slug, programs)
        else:
            far.append(agent)
    for part in range(min(_AT_ONCE, len(far))):
        mine = far[part::_AT_ONCE]
        threading.Thread(target=_ask_all, args=(engine, home, mine, here, asked), daemon=True).start()
    for _ in far:
        if (answer := asked.get()) is not None:
            yield answer


def _seen_here(home: Home, slug: str, programs: Sequence[Program]) -> Look:
    sessions = read_sessions(str(home.bottle(slug).sessions))
    return Look(True, sessions, _told_apart(home, slug, programs), _memory_here(programs))


def _told_apart(home: Home, slug: str, programs: Sequence[Program]) -> tuple[Program, ...] | None:
    """Behind a kernel of its own a bottle's processes are none of this host's: those are the kernel's own."""
    metadata = read_state(home, slug)
    own_kernel = not isinstance(metadata, Broken) and metadata.runtime
    return None if own_kernel else tuple(programs)


def _memory_here(programs: Sequence[Program]) -> int | None:
    for program in programs:
        with suppress(OSError):
            folder = memory_group(read(f"/proc/{program.outside}/cgroup"))
            return memory_of_group(folder)
    return None


def container_of(folder: str) -> str | None:
    """The identity of the container that a process runs in, by its control group."""
    return identity_in(read(f"{folder}/cgroup"))


def identity_in(groups: str) -> str | None:
    """`0::/docker/IDENTITY`, `0::/system.slice/docker-IDENTITY.scope`."""
    for line in groups.splitlines():
        last = line.rpartition("/")[2].removesuffix(".scope").rpartition("-")[2]
        if len(last) == _IDENTITY and set(last) <= set("0123456789abcdef"):
            return last
    return None


def memory_group(groups: str) -> str:
    """The folder of the group that counts memory: of version 1 where there is one, else of version 2."""
    folder = ""
    for line in groups.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return f"/sys/fs/cgroup/memory{path}"
        if number == "0":
            folder = f"/sys/fs/cgroup{path}"
    return folder


def _ask_all(
    engine: Engine,
    home: Home,
    agents: Sequence[Container],
    here: dict[str, list[Program]],
    answers: queue.Queue[tuple[str, Look] | None],
) -> None:
    for agent in agents:
        answer = None
        try:
            answer = agent.slug, _asked(engine, home, agent, here.get(agent.identity))
        except BottleError:
            pass  # it has ended, or the engine is too slow for it: it is not in the answer
        finally:
            answers.put(answer)


def _asked(engine: Engine, home: Home, agent: Container, here: Sequence[Program] | None) -> Look:
    sessions = from_archive(_sessions(engine, agent.name))
    if here:
        return Look(True, sessions, _told_apart(home, agent.slug, here), _memory_here(here))
    programs = None if _claude_runs(engine, agent.name) else ()
    return Look(True, sessions, programs, _memory(engine, agent.name))


def _sessions(engine: Engine, name: str) -> bytes:
    path = "/".join((NODE_HOME, *FOLDER))
    try:
        return engine.ask(
            "GET",
            f"/containers/{name}/archive",
            query={"path": path},
            limit=ARCHIVE_BYTES,
            timeout=_SECONDS,
        )
    except EngineError as error:
        if error.status == 404:  # there is none yet
            return b""
        raise


def _claude_runs(engine: Engine, name: str) -> bool:
    """Whether any process is Claude Code; true where the engine cannot tell."""
    try:
        found = parsed(
            engine.ask("GET", f"/containers/{name}/top", query={"ps_args": "-eo pid,args"}, timeout=_SECONDS)
        )
        return any(CLAUDE in str(row[-1]) for row in found["Processes"])
    except (EngineError, TypeError, KeyError, IndexError):
        return True


def _memory(engine: Engine, name: str) -> int | None:
    query = {"stream": "false", "one-shot": "true"}
    try:
        found = parsed(engine.ask("GET", f"/containers/{name}/stats", query=query, timeout=_SECONDS))
    except EngineError:
        return None
    return memory_in(found)


def memory_in(stats: Any) -> int | None:
    """As the engine's own client counts it."""
    try:
        usage = stats["memory_stats"]["usage"]
        details = stats["memory_stats"].get("stats") or {}
        idle = details.get("total_inactive_file", details.get("inactive_file", 0))
        return max(0, int(usage) - int(idle))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        return None
