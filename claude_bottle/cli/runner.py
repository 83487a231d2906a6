"""Runs one subcommand: its options, its errors, its exit status.

Signals that end a command become exceptions, so that whatever it holds is unwound; a second one ends it at
once.
"""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType, ModuleType
from typing import NoReturn

from claude_bottle.cli import give_up_output
from claude_bottle.cli.screen import Screen
from claude_bottle.errors import EXIT_FAILED, BottleError, UsageError

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal asked this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class _Parser(argparse.ArgumentParser):
    """One that ends nothing itself: what is wrong is an error like any other, for any screen."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.split()[-1]}: {message}", f"{self.prog} --help says what it takes")


def run_command(name: str, module: ModuleType, arguments: list[str], screen: Screen | None = None) -> int:
    """`module` has `configure(parser)` and `run(options, screen) -> int`. `screen`: else the terminal.

    One that hands words on to another program also has `split(arguments)`, which tells its own from those.
    """
    parser = parser_of(name, module)
    screen = screen or Screen(sys.stdout, sys.stderr)
    for number in ENDING:
        signal.signal(number, _raise_ended)
    try:
        status = _run(module, parser, arguments, screen)
        sys.stdout.flush()
        return status
    except BottleError as error:
        screen.error(error)
        return error.exit_code
    except Ended as ended:
        screen.say(f"ended by signal {ended.status - 128}")
        return ended.status
    except BrokenPipeError:
        give_up_output()
        return EXIT_FAILED
    except OSError as error:
        if not _can_flush():
            give_up_output()
        screen.error(
            BottleError(
                f"{error.strerror or error}: {error.filename or 'the operating system refused'}", _hint(error)
            )
        )
        return EXIT_FAILED


def parser_of(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"claude-bottle {name}", description=module.__doc__, formatter_class=_formatter)
    module.configure(parser)
    return parser


def words_of(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Options may stand anywhere; left to itself the parser takes an optional word only beside the others.

    Raises UsageError for what it does not take, SystemExit where it has shown its help.
    """
    if "--" in words:  # what follows is no option, which is lost when the words are read in two turns
        return parser.parse_args(words)
    return parser.parse_intermixed_args(words)


def _run(module: ModuleType, parser: argparse.ArgumentParser, arguments: list[str], screen: Screen) -> int:
    own, rest = module.split(arguments) if hasattr(module, "split") else (arguments, [])
    try:
        options = words_of(parser, own)
    except SystemExit as ended:  # it has shown its help
        return int(ended.code or 0)
    options.rest = rest
    return int(module.run(options, screen))


def _can_flush() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, width=100)


def _hint(error: OSError) -> str | None:
    import errno

    hints = {
        errno.ENOSPC: "the disk is full: make room and try again",
        errno.EROFS: "the file system is read-only",
    }
    return hints.get(error.errno or 0)


def _raise_ended(number: int, _: FrameType | None) -> NoReturn:
    for each in ENDING:
        signal.signal(each, signal.SIG_DFL)
    raise Ended(number)
