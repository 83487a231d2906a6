"""Tells that an agent asks, beside whatever lives with the agent: the audit log, and the operator by a
command of the operator's own.

Invariant: the command gets no shell, no terminal, no input, no secret and no text with a control character;
and nothing that it does, or does not do, holds anybody up: it has a limit of time, and of how often.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.operations.hint import Glimpse, glimpse
from claude_bottle.policy.proposals import CAPABILITY, URL, Proposal, Queue
from claude_bottle.text import shown

if TYPE_CHECKING:
    from claude_bottle.operations.context import Context
    from claude_bottle.state.metadata import Metadata

PAUSE = 10.0  # seconds between two runs of the command
COMMAND_SECONDS = 10.0
LOOK_SECONDS = 1.0
_ANYWAY_SECONDS = 10.0
DESKTOP = ("DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY", "TMUX_TMPDIR")
_TEXT = 200  # characters


class Notice(NamedTuple):
    """What is told: one proposal, and how many `more` have come since the last time."""

    proposal: str
    text: str
    more: int = 0


class Told(NamedTuple):
    """What needs no more telling, and when something was told last."""

    known: frozenset[str] = frozenset()
    last: float = float("-inf")


def next_notice(told: Told, queue: Queue, now: float) -> tuple[Told, Notice | None]:
    """Pure: what is to be told at this moment. What was answered before it could be told is not."""
    fresh = [item for item in queue.pending if item.id not in told.known]
    if not fresh or now - told.last < PAUSE:
        return told, None
    known = frozenset(item.id for item in queue.pending)
    return Told(known, now), Notice(fresh[0].id, describe(fresh[0]), len(fresh) - 1)


def describe(item: Proposal) -> str:
    """One harmless line."""
    asked = item.asked
    if asked.kind == CAPABILITY:
        what = " ".join(asked.packages) or asked.dockerfile
    elif asked.route is not None:
        words = (",".join(asked.route.methods), asked.route.host, " ".join(asked.route.paths))
        what = " ".join(word for word in words if word)
    else:
        what = asked.url if asked.kind == URL else ""
    return shown(f"{asked.kind}: {shown(what, 100)}: {asked.justification}", _TEXT)


def environment(slug: str, notice: Notice) -> dict[str, str]:
    return {
        "CLAUDE_BOTTLE_SLUG": slug,
        "CLAUDE_BOTTLE_PROPOSAL": notice.proposal,
        "CLAUDE_BOTTLE_TEXT": notice.text,
        "CLAUDE_BOTTLE_MORE": str(notice.more),
    }


def tell(argv: tuple[str, ...], slug: str, notice: Notice, host: Mapping[str, str]) -> str:
    """Runs the command; what went wrong, on one line, empty where nothing did."""
    import signal
    import subprocess

    from claude_bottle.proc import Command, environment_for

    own = tuple(environment(slug, notice).items())
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment_for(Command(argv, keep=DESKTOP, environment=own), host),
            start_new_session=True,
        )
    except OSError as error:
        return f"{argv[0]} cannot be run: {error.strerror}"
    with process:
        try:
            status = process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # it is not reaped yet, so the group is its own
            return f"{argv[0]} did not end within {COMMAND_SECONDS:.0f} s"
    return f"{argv[0]} ended with status {status}" if status else ""


class Watch:
    """Looks at a bottle's proposals from a thread of its own until it is told to stop."""

    def __init__(
        self,
        look: Callable[[], Queue | None],
        act: Callable[[Notice], object],
        pause: float = LOOK_SECONDS,
    ) -> None:
        """`look` gives None where no bottle runs, as in a rebuild; both raise BottleError or OSError."""
        self._look = look
        self._act = act
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for nothing: a command that runs is on its own, and ends by its limit or by itself."""
        self._over.set()

    def _run(self) -> None:
        told = Told()
        while not self._over.wait(self._pause):
            try:
                queue = self._look()
                if queue is None:
                    continue
                told, notice = next_notice(told, queue, time.monotonic())
                if notice is not None:
                    self._act(notice)
            except (BottleError, OSError):
                continue  # the next look may see more


def watch(
    context: Context,
    metadata: Metadata,
    argv: tuple[str, ...],
    complain: Callable[[str], object],
    also: Callable[[Notice], object] = lambda notice: None,
) -> Watch:
    """`also` is called for each notice, before the command is run; `complain` hears each fault once."""
    faults: set[str] = set()
    looking, noting = _Looking(context, metadata), _Noting(context, metadata)

    def hear(fault: str) -> None:
        if fault and fault not in faults and len(faults) < 8:
            faults.add(fault)
            complain(fault)

    def look() -> Queue | None:
        queue = looking()
        if queue is not None:
            hear(noting(queue, time.monotonic()))
        return queue

    def act(notice: Notice) -> None:
        also(notice)
        fault = tell(argv, metadata.slug, notice, context.environment) if argv else ""
        hear(fault and f"you were not told that {metadata.slug} asks: {fault}")

    return Watch(look, act)


class _Noting:
    """Puts what is new into the audit log; where that fails it is tried again after a while."""

    def __init__(self, context: Context, metadata: Metadata) -> None:
        self._home = context.home
        self._whose = (metadata.slug, metadata.agent)
        self._known: frozenset[str] = frozenset()
        self._again = float("-inf")

    def __call__(self, queue: Queue, now: float) -> str:
        """What went wrong, on one line."""
        from claude_bottle.operations.noting import unnoted

        names = frozenset(item.id for item in queue.proposals)
        if names <= self._known or now < self._again:
            return ""
        fault = unnoted(self._home, *self._whose, queue.proposals)
        self._known, self._again = (self._known, now + PAUSE) if fault else (names, self._again)
        return fault


class _Looking:
    """Asks the bottle only where it may have news: an engine may be far."""

    def __init__(self, context: Context, metadata: Metadata) -> None:
        self._paths = context.home.bottle(metadata.slug)
        self._metadata = metadata
        self._asked: Glimpse | None = None
        self._queue: Queue | None = Queue()

    def __call__(self) -> Queue | None:
        from claude_bottle.backend import load_backend
        from claude_bottle.operations.deciding import look

        now = glimpse(self._paths)
        if now.calls_for_asking(self._asked, _ANYWAY_SECONDS):
            bottle = load_backend(self._metadata.backend).find(self._metadata, self._paths)
            self._queue = None if bottle is None else look(bottle).queue
            self._asked = now
        return self._queue
