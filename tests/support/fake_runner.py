"""A Runner that knows beforehand what will be run: another command fails the test, and so does a missing one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from claude_bottle.proc import Command, Result

Answer = Result | Callable[[Command], Result]


class UnexpectedCommand(AssertionError):
    """Something was run that the test does not know of."""


class MissingCommand(AssertionError):
    """Something that the test waits for was not run."""


class FakeRunner:
    """Answers the expected commands in their order; each is given by its argv, or by the argv's beginning and ..."""

    def __init__(self, expected: Iterable[tuple[tuple[object, ...], Answer]]) -> None:
        self._left = list(expected)
        self.commands: list[Command] = []

    def run(self, command: Command) -> Result:
        if not self._left:
            raise UnexpectedCommand(f"nothing more was expected, but {list(command.argv)} came")
        argv, answer = self._left.pop(0)
        if not _matches(argv, command.argv):
            raise UnexpectedCommand(f"{list(argv)} was expected, but {list(command.argv)} came")
        self.commands.append(command)
        return answer(command) if callable(answer) else answer

    def check_finished(self) -> None:
        if self._left:
            raise MissingCommand(f"never run: {[list(argv) for argv, _ in self._left]}")


@contextmanager
def fake_runner(*expected: tuple[tuple[object, ...], Answer]) -> Iterator[FakeRunner]:
    """Fails at the end of the block if an expected command was not run."""
    runner = FakeRunner(expected)
    yield runner
    runner.check_finished()


def _matches(expected: tuple[object, ...], argv: tuple[str, ...]) -> bool:
    if expected and expected[-1] is ...:
        return argv[: len(expected) - 1] == expected[:-1]
    return argv == expected


def says(text: str = "", status: int = 0, complaint: str = "") -> Result:
    return Result(status, text.encode(), complaint.encode())
