"""A running bottle of this backend, found by the names of its containers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from claude_bottle.backend.base import WORKSPACE, Bottle
from claude_bottle.backend.docker import argv as lines
from claude_bottle.backend.docker.argv import OPT, Names
from claude_bottle.backend.docker.engine import VARIABLES
from claude_bottle.backend.python import PACKAGE_ROOT, python_argv
from claude_bottle.proc import Command, Result, Runner

if TYPE_CHECKING:
    from claude_bottle.backend.docker.launch import Launching


class DockerBottle(Bottle):
    """`launching` is set only in the process that has just launched it."""

    variables = VARIABLES

    def __init__(self, names: Names, runner: Runner, launching: Launching | None = None) -> None:
        self.slug = names.slug
        self._names = names
        self._runner = runner
        self._launching = launching

    def command(self, argv: list[str], *, tty: bool, directory: str = WORKSPACE) -> list[str]:
        from claude_bottle.backend.terminal import facts

        variables = facts(os.environ).items() if tty else ()
        transport = lines.enter(self._names.agent, argv, variables, tty=tty, directory=directory)
        options = ["-t", "--"] if tty else ["--"]
        return python_argv("backend.remote.outside", PACKAGE_ROOT, *options, *transport)

    def exec(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        timeout: float = 120.0,
        directory: str = WORKSPACE,
        limit: int = 64 << 20,
    ) -> Result:
        framed = tuple(self.command(argv, tty=False, directory=directory))
        return self._runner.run(
            Command(framed, stdin=stdin, timeout=timeout, limit=limit, keep=self.variables)
        )

    def probe(self, questions: bytes, timeout: float) -> Result:
        program = python_argv("backend.probe", f"{OPT}/lib", interpreter="/usr/bin/python3")
        return self.exec(program, stdin=questions, timeout=timeout, directory="/")

    def keep(self) -> None:
        if self._launching is not None:
            self._launching.keep()
            self._launching = None

    def stop(self) -> None:
        from claude_bottle.backend.docker.launch import remove_containers

        if self._launching is not None:
            self._launching.abandon()
            self._launching = None
            return
        remove_containers(self._runner, [self._names.agent, self._names.sidecars])
