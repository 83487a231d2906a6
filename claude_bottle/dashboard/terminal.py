"""Hands the operator's terminal to another program, and takes it back.

Invariant: whatever the program does or leaves behind, the app draws again afterwards, on a terminal with the
modes that it needs; and nothing that was typed for the program, or said by the terminal meanwhile, reaches
the app as a key. Textual brings no app back that an exception passes through while it is suspended: so what
goes wrong is kept until it is back.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from claude_bottle.errors import BottleError

if TYPE_CHECKING:
    from textual.app import App

# Of what a program that was killed leaves switched on. First the screen: scrolling region (which moves the
# cursor, hence saved), insertion, colours, character set, wrapping, cursor. Then what is typed: cursor keys,
# keypad, the mouse, focus, paste, and the key protocols of kitty and xterm.
_PLAIN_SCREEN = b"\x1b7\x1b[r\x1b8\x1b[4l\x1b[m\x1b(B\x0f\x1b[?7h\x1b[?25h"
_MODES = (1, 9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004)
_PLAIN_INPUT = b"\x1b>" + b"".join(b"\x1b[?%dl" % mode for mode in _MODES) + b"\x1b[=0u\x1b[>4;0m"


def hand_over(
    app: App[Any], argv: Sequence[str], environment: Mapping[str, str], *, waits_on_failure: bool = True
) -> int:
    """The status of `argv`, as a shell has it. To be called on the app's own thread, which waits meanwhile.

    Where it fails its words stay until the operator has seen them; not so where its status is somebody
    else's (`waits_on_failure`). Raises BottleError where no terminal can be handed over, or `argv` cannot be
    started.
    """
    from textual.app import SuspendNotSupported

    try:
        with app.suspend():
            outcome = _run(argv, environment, waits_on_failure)
    except SuspendNotSupported:
        hint = f"in another one: {shlex.join(argv)}"
        raise BottleError("the dashboard cannot hand its terminal over", hint) from None
    if isinstance(outcome, BottleError):
        raise outcome
    return outcome


def _run(argv: Sequence[str], environment: Mapping[str, str], waits_on_failure: bool) -> int | BottleError:
    before = _modes()
    with _signals_for_the_program():
        try:
            process = subprocess.Popen(argv, env=dict(environment))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            return BottleError(f"{argv[0]} cannot be started: {reason}")
        status = _wait(process)
        with suppress(OSError, termios.error):  # the terminal is gone, and the app will see so
            _take_back(before)
            if status and waits_on_failure:
                _say(f"\r\nstatus {status}: Enter goes back to the dashboard ".encode())
                _await_enter()
        return status


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        status = process.wait()
    except BaseException:  # the dashboard is told to end, and its terminal ends for the program as well
        process.send_signal(signal.SIGHUP)
        raise
    return status if status >= 0 else 128 - status


@contextmanager
def _signals_for_the_program() -> Iterator[None]:
    """The terminal's signals reach the whole job; all of it but the program lets them pass.

    Ctrl-Z stops the job where a shell can bring it back; Textual's own handler would stop us in any case. A
    handler is not inherited, as ignoring would be.
    """
    before = [
        (signal.SIGINT, signal.signal(signal.SIGINT, _let_pass)),
        (signal.SIGQUIT, signal.signal(signal.SIGQUIT, _let_pass)),
        (signal.SIGTSTP, signal.signal(signal.SIGTSTP, signal.SIG_DFL)),
    ]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _let_pass(*_: object) -> None:
    return


def _modes() -> list[Any] | None:
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _take_back(modes: list[Any] | None) -> None:
    if modes is not None:
        termios.tcsetattr(0, termios.TCSANOW, modes)
    _say(_PLAIN_SCREEN + _PLAIN_INPUT)
    termios.tcflush(0, termios.TCIFLUSH)


def _await_enter() -> None:
    """Or the end of the input."""
    while (typed := os.read(0, 1024)) and not typed.endswith((b"\n", b"\r")):
        pass


def _say(words: bytes) -> None:
    """Where the app itself writes."""
    while words:
        words = words[os.write(2, words) :]
