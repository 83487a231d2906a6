"""A running bottle of this backend, found by the names of its containers."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

from claude_bottle.backend.base import WORKSPACE, Bottle
from claude_bottle.backend.docker.bodies import Names, inside, probe
from claude_bottle.backend.docker.engine import VARIABLES
from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from claude_bottle.proc import Result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_bottle.backend.docker.api import Engine
    from claude_bottle.backend.docker.enter import Entry
    from claude_bottle.backend.docker.launch import Launching


class DockerBottle(Bottle):
    """`launching` is set only in the process that has just launched it."""

    variables = VARIABLES

    def __init__(self, names: Names, engine: Engine, launching: Launching | None = None) -> None:
        self.slug = names.slug
        self._names = names
        self._engine = engine
        self._launching = launching

    def command(self, argv: list[str], *, tty: bool, directory: str = WORKSPACE) -> list[str]:
        options = ["-t", "--"] if tty else ["--"]
        framed = _framed(argv, tty, directory)
        return python_argv("backend.docker.enter", PACKAGE_ROOT, *options, self._names.agent, *framed)

    def carry(self, argv: list[str], *, tty: bool, directory: str = WORKSPACE) -> int:
        from claude_bottle.backend.docker.enter import carry

        return carry(self._engine, self._names.agent, _framed(argv, tty, directory), terminal=tty)

    def exec(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        timeout: float = 120.0,
        directory: str = WORKSPACE,
        limit: int = 64 << 20,
    ) -> Result:
        return self._gathered(self._entry(_framed(argv, False, directory)), stdin, timeout, limit)

    def probe(self, questions: bytes, timeout: float) -> Result:
        waiting = self._launching.take_probe() if self._launching is not None else None
        return self._gathered(waiting or self._entry(probe()), questions, timeout, 1 << 20)

    def _entry(self, framed: list[str]) -> Entry:
        from claude_bottle.backend.docker.enter import Entry

        return Entry(self._engine, self._names.agent, framed)

    def _gathered(self, entry: Entry, stdin: bytes, timeout: float, limit: int) -> Result:
        from claude_bottle.backend.remote.collect import collect

        with closing(entry):
            entry.sock.setblocking(False)
            done = collect(entry.sock, entry.unwrap, entry.unwrap(b""), stdin, timeout, limit)
            return done._replace(stderr=done.stderr + entry.words)

    def control(self, request: Mapping[str, object], timeout: float = 5.0) -> dict[str, Any]:
        """By a program that the engine starts as root beside the bundle: nobody else there is root."""
        from claude_bottle.backend.docker.control import ask_bundle

        return ask_bundle(self._engine, self._names, request, timeout)

    def keep(self) -> None:
        if self._launching is not None:
            self._launching.keep()
            self._launching = None

    def stop(self) -> None:
        from claude_bottle.backend.docker.remove import remove_containers

        if self._launching is not None:
            self._launching.abandon()
            self._launching = None
            return
        remove_containers(self._engine, [self._names.agent, self._names.sidecars])


def _framed(argv: list[str], tty: bool, directory: str) -> list[str]:
    if not tty:
        return inside(argv, (), tty=False, directory=directory)
    from claude_bottle.backend.terminal import facts

    return inside(argv, facts(os.environ).items(), tty=True, directory=directory)
