"""Runs one program inside a running bottle, as the bottle's own user and under the bottle's own limits.

Theory. Two processes do it:

    middle    joins the bottle's namespaces but stays outside its process namespace, so nothing inside
              can see, signal or trace it; it relays bytes between the caller and the child
    child     is born in the bottle's process namespace, becomes the bottle's user, gives up every
              privilege, installs the system call filter and only then becomes the program

Rules. 1. No descriptor of the host enters: the child gets pipes, or a terminal of the bottle's own. 2.
Both are undumpable and have forgotten their command line from before the first namespace is joined, so
/proc shows nothing of them inside. 3. The environment is the bottle's, never the caller's. 4. The child
dies with the middle. 5. Whatever fails, nothing is run, and the status is 125. 6. Every module is loaded
before the first namespace is joined, since afterwards a name would be looked up among the bottle's files.

Started as `python -I -S -c ...` (see `argv.enter`), since a joined namespace cannot be left again. Somebody
waits for each start, so neither this nor what it imports needs `typing` or `dataclasses`, which take as long
as the rest.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import warnings  # noqa: F401 - rule 6: `os.execvpe` asks for it
from collections import namedtuple
from types import ModuleType

from claude_bottle.backend import linux
from claude_bottle.backend.bubblewrap.entry import Doors, NotRunning, open_doors
from claude_bottle.backend.bubblewrap.relay import forward_signals, relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

NODE_UID = 1000
WORKSPACE = "/home/node/workspace"
FAILED_TO_ENTER, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127


class Inside(namedtuple("Inside", "become terminal", defaults=(False,))):
    """What becomes of the child once it is inside and powerless; it must not return."""

    __slots__ = ()
    become: Callable[[dict[bytes, bytes]], NoReturn]
    terminal: bool


def execute(argv: tuple[str, ...], directory: str) -> Callable[[dict[bytes, bytes]], NoReturn]:
    """A child that becomes `argv`."""

    def become(environment: dict[bytes, bytes]) -> NoReturn:
        try:
            os.chdir(directory)
            linux.close_from(3)
            os.execvpe(argv[0], argv, environment)
        except FileNotFoundError:
            _say(f"{argv[0]}: not found in the bottle")
            os._exit(NOT_FOUND)
        except OSError as error:
            _say(f"{argv[0]}: {error.strerror}")
            os._exit(CANNOT_EXECUTE)

    return become


def enter(run: str, inside: Inside) -> int:
    """Runs the child in the bottle of this run directory and returns its exit status.

    The calling process joins the bottle and can do nothing else afterwards. Raises NotRunning or OSError.
    """
    doors = open_doors(run)
    if inside.terminal:
        _terminal()
    sys.path.clear()
    sys.meta_path.clear()  # rule 6, for whatever was forgotten
    linux.set_dumpable(False)
    linux.forget_arguments("claude-bottle")
    if os.geteuid() == 0:
        os.setgroups([])
    linux.setns(doors.owner, linux.CLONE_NEWUSER)
    for descriptor, kind in doors.namespaces:
        linux.setns(descriptor, kind)
    if inside.terminal:
        return _with_terminal(doors, inside)
    return _with_pipes(doors, inside)


def _with_pipes(doors: Doors, inside: Inside) -> int:
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    child, start = _fork(doors, inside, (stdin[0], stdout[1], stderr[1]))
    for descriptor in (stdin[0], stdout[1], stderr[1]):
        os.close(descriptor)
    forward_signals(child)
    start()
    relay(0, stdin[1], ((stdout[0], 1), (stderr[0], 2)), os.pidfd_open(child))
    return _status(child)


def _with_terminal(doors: Doors, inside: Inside) -> int:
    terminal = _terminal()
    master, slave = terminal.open_terminal()
    child, start = _fork(doors, inside, (slave, slave, slave))
    os.close(slave)
    forward_signals(child)
    terminal.follow_window_size(0, master)
    with terminal.raw(0):
        start()
        relay(0, master, ((master, 1),), os.pidfd_open(child))
    return _status(child)


def _terminal_facts() -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in _terminal().facts(os.environ).items()}


def _terminal() -> ModuleType:
    from claude_bottle.backend import terminal

    return terminal


def _fork(doors: Doors, inside: Inside, stdio: tuple[int, int, int]) -> tuple[int, Callable[[], None]]:
    """The child's process number, and what lets it go on once the caller is ready for its output."""
    gate_out, gate_in = os.pipe()
    environment = doors.environment | _terminal_facts() if inside.terminal else doors.environment
    child = os.fork()
    if child == 0:
        try:
            os.close(gate_in)
            _give_up_everything(doors, stdio, inside.terminal)
            if os.read(gate_out, 1) != b"g":  # the middle has died already
                os._exit(FAILED_TO_ENTER)
            linux.install_seccomp(doors.program)
            inside.become(environment)
        except BaseException as error:  # noqa: BLE001 - a child must never return into its parent's code
            _say(f"cannot enter the bottle: {error}")
        finally:
            os._exit(FAILED_TO_ENTER)
    os.close(gate_out)

    def start() -> None:
        os.write(gate_in, b"g")
        os.close(gate_in)

    return child, start


def _give_up_everything(doors: Doors, stdio: tuple[int, int, int], terminal: bool) -> None:
    os.setsid()
    for target, descriptor in enumerate(stdio):
        os.dup2(descriptor, target)
    if terminal:
        _terminal().take_as_controlling(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    for descriptor in doors.cgroups:
        os.write(descriptor, b"0")
    for limit, value in doors.rlimits:
        resource.setrlimit(limit, (value, value))
    os.umask(0o022)
    if os.fstat(doors.inner).st_ino != os.stat("/proc/self/ns/user").st_ino:
        linux.setns(doors.inner, linux.CLONE_NEWUSER)
    linux.bound_capabilities()
    os.setresgid(NODE_UID, NODE_UID, NODE_UID)
    os.setresuid(NODE_UID, NODE_UID, NODE_UID)
    linux.drop_capabilities()
    linux.set_dumpable(False)
    linux.no_new_privileges()
    linux.die_with_parent()


def _status(child: int) -> int:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    os.write(2, f"claude-bottle: {text}\n".encode(errors="replace"))


def main(arguments: list[str]) -> int:
    """RUN_DIRECTORY [-t] [-w DIRECTORY] [-p] -- ARGV; `-p` takes a probe's JSON from standard input."""
    run, options = arguments[0], arguments[1:]
    terminal, directory = False, WORKSPACE
    while options and options[0] != "--":
        option = options.pop(0)
        if option == "-t":
            terminal = True
        elif option == "-w" and options:
            directory = options.pop(0)
        else:
            raise ValueError(f"unknown option {option}")
    argv = tuple(options[1:])
    if not argv:
        raise ValueError("nothing to run")
    return enter(run, Inside(execute(argv, directory), terminal))


def start(arguments: list[str]) -> NoReturn:
    """`main`, with every failure turned into a message and status 125."""
    try:
        sys.exit(main(arguments))
    except NotRunning as error:
        _say(f"this bottle is not running: {error}")
    except (OSError, ValueError) as error:
        _say(f"cannot enter the bottle: {error}")
    sys.exit(FAILED_TO_ENTER)
