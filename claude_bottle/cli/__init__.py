"""The command line: finds the subcommand's module and nothing else, so that each command loads only its own.

Invariant: what a user does wrong ends as one short message with a hint and an exit code; never as a
traceback.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

COMMANDS = {
    "demo": "the tour: real Claude Code in a real bottle, without an account",
    "start": "start an agent in a bottle and attach to it",
    "attach": "attach this terminal to a running agent",
    "run": "run an agent on one prompt, hand its work over, and end",
    "exec": "run a command inside a running bottle",
    "resume": "start a bottle that has ended once more, and go on",
    "stop": "end bottles; their state is preserved",
    "list": "what runs, and what there is",
    "proposals": "what agents ask for, and your answers",
    "audit": "what was asked, decided, changed, started and ended, and whether that record is whole",
    "logs": "what an agent said, and what its bottle's sidecars decided and said",
    "routes": "what a running bottle may reach: show and change it",
    "allowlist": "the same in short form, for hosts that are allowed as a whole",
    "why": "why a bottle may or may not send a request",
    "diff": "what an agent changed",
    "pull": "take an agent's work into refs/bottles/<slug>/",
    "dashboard": "all agents and all their questions on one screen, with tmux beside it",
    "cleanup": "remove what bottles have left that nothing will use again",
    "doctor": "what this host can do, and how to mend what it cannot",
    "info": "what an agent is and may do",
    "init": "write a first bottle and a first agent",
}
_MODULES = {"exec": "exec_", "list": "list_"}


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"usage: claude-bottle COMMAND ...\n\n{rows}\n\nclaude-bottle COMMAND --help says more."


def main(arguments: list[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help", "help"):
        return _put(usage()) if given else _put(usage()) or 2
    if given[0] in ("-V", "--version", "version"):
        from claude_bottle import __version__

        return _put(f"claude-bottle {__version__}")
    if given[0] not in COMMANDS:
        return _unknown(given[0])
    from claude_bottle.cli.runner import run_command

    return run_command(given[0], module_of(given[0]), given[1:])


def module_of(command: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"claude_bottle.cli.{_MODULES.get(command, command)}")


def _put(text: str) -> int:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError:
        give_up_output()
        return 1
    return 0


def give_up_output() -> None:
    """Nobody takes what is written: what waits still must not be tried again at the end."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def console() -> NoReturn:
    """The installed command. It ends without taking the interpreter apart, which takes its time."""
    import gc
    import os

    gc.set_threshold(50_000)  # loading modules makes no garbage, and most commands do little else
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1  # what was said has reached nobody
    os._exit(status)


def _unknown(name: str) -> int:
    import difflib

    from claude_bottle.text import shown

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else "claude-bottle --help lists the commands"
    sys.stderr.write(f"claude-bottle: there is no command {shown(name)!r}\n  {hint}\n")
    return 2
