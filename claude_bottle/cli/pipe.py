"""One command of the command line for a program instead of a person: what it tells are JSON lines.

What is asked, refused and done is the command's own, so a program may do what the operator may, and no more.
A command that never ends by itself, as `list --watch`, outlives who started it: it is none for this.

Invariant: only a whole line that answers the question just asked is a yes, or a value. What a command was
told to do it does to the end, whether or not anybody still reads; what it waits to be told it never assumes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from claude_bottle.cli.screen import Screen
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.text import shown, shown_lines

_LONGEST_PUT = 32_768  # characters, each at most twelve bytes of JSON
_LONGEST_ANSWER = 1 << 17  # bytes


def start(arguments: list[str]) -> NoReturn:
    """The first of `arguments` is the command's name. Started in a session of its own, by whom it serves."""
    screen = PipeScreen(*_take_over())
    status = _run(arguments, screen)
    screen.ended(status)
    os._exit(status)


def _run(arguments: list[str], screen: PipeScreen) -> int:
    from claude_bottle.cli import COMMANDS, module_of
    from claude_bottle.cli.runner import ENDING, run_command

    if not arguments or arguments[0] not in COMMANDS:
        error = UsageError("there is no such command", "claude-bottle --help lists the commands")
        screen.error(error)
        return error.exit_code
    status = run_command(arguments[0], module_of(arguments[0]), arguments[1:], screen)
    for number in ENDING:  # what is done is not undone, and its status is still to be told
        signal.signal(number, signal.SIG_IGN)
    return status


def _take_over() -> tuple[int, int]:
    """Input and output for the screen alone: no other word gets in between, and no child has them."""
    answers, output = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
    return answers, output


class PipeScreen(Screen):
    """The same words, as safe to look at as on a terminal, and each in a line of its own."""

    def __init__(self, answers: int, output: int) -> None:
        super().__init__(sys.stdout, sys.stderr)  # of which nothing is used
        self._answers = answers
        self._output = output
        self._unsent = bytearray()  # of a line in whose midst a signal came

    @property
    def data_is_terminal(self) -> bool:
        return False

    @property
    def is_dumb(self) -> bool:
        return True

    def put(self, line: str) -> None:
        self._tell(put="\t".join(shown(field, _LONGEST_PUT) for field in line[:_LONGEST_PUT].split("\t")))

    def put_json(self, obj: dict[str, Any]) -> None:
        line = json.dumps({"schema": 1, **obj})
        if len(line) > _LONGEST_PUT:
            raise BottleError("this is too much for one line")
        self.put(line)

    def put_bytes(self, content: bytes) -> None:
        for line in content.decode(errors="replace").removesuffix("\n").split("\n"):
            self.put(shown(line.replace("\t", "    "), 2000))

    def flush(self) -> None:
        """Each line is sent as it is put."""

    def say(self, text: str) -> None:
        self._tell(say=shown(text, 1000))

    def pair(self, label: str, text: str, width: int = 11) -> None:
        self._tell(pair=[shown(label), shown(text, 500)])

    def step(self, name: str, milliseconds: float) -> None:
        self._tell(step=[shown(name), round(float(milliseconds), 1)])

    def verdict(self, good: bool, text: str) -> None:
        self._tell(verdict=[good, shown(text, 500)])

    def heading(self, text: str) -> None:
        self._tell(heading=shown(text))

    def error(self, error: BottleError) -> None:
        message, hint = (shown_lines(text, 16_000) for text in (error.message, error.hint or ""))
        self._tell(error=message, hint=hint)

    def ended(self, status: int) -> None:
        """The last line."""
        self._tell(ended=status)

    def confirm(self, question: str, yes: bool) -> bool:
        """Where nobody is left to answer, the answer is no. Raises UsageError for what is no answer."""
        if yes:
            return True
        said = self._answer("confirm", question)
        if said is None:
            return False
        if not isinstance(said.get("yes"), bool) or len(said) != 1:
            raise UsageError(f"what was answered to {shown(question)!r} is neither yes nor no")
        return bool(said["yes"])

    def ask(self, question: str) -> str:
        """Raises UsageError where there is no value."""
        said = self._answer("ask", question)
        if said is None:
            raise UsageError(f"nobody has answered {shown(question)!r}")
        value = said.get("value")
        if not isinstance(value, str) or len(said) != 1 or not _is_line(value):
            raise UsageError(f"what was answered to {shown(question)!r} is not one line of text")
        return value

    def _answer(self, name: str, question: str) -> dict[str, Any] | None:
        """What is said to this question. None where nobody will; raises UsageError for what is no answer."""
        if select.select([self._answers], [], [], 0)[0]:
            if os.read(self._answers, 1):
                raise UsageError(f"{shown(question)!r} was answered before it was asked")
            return None
        self._tell(**{name: shown(question)})
        line = b"".join(self._line())
        text, end, more = line.partition(b"\n")
        if not end:
            return None
        try:
            said = None if more else json.loads(text)
        except (ValueError, RecursionError):  # whose text would quote a secret
            said = None
        if not isinstance(said, dict):
            raise UsageError(f"what was answered to {shown(question)!r} cannot be understood")
        return said

    def _line(self) -> Iterator[bytes]:
        """Up to a line's end, or the end of all. What comes beyond the line makes it none."""
        left = _LONGEST_ANSWER
        while part := os.read(self._answers, min(left, 65536)):
            yield part
            left -= len(part)
            if b"\n" in part:
                return
            if left <= 0:
                raise UsageError("what was answered is too long")

    def _tell(self, **message: object) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        try:
            while self._unsent:
                del self._unsent[: os.write(self._output, self._unsent)]
        except BrokenPipeError:  # nobody reads any more, which is no reason to leave off
            self._unsent.clear()


def _is_line(value: str) -> bool:
    """Whether it could have been typed, and can be handed on."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return not {"\n", "\r", "\0"} & set(value)
