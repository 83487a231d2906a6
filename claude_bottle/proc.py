"""The one place that starts other programs.

A `Command` is frozen data: what would be run. A `Runner` runs it. Secrets go to standard input or an
inherited descriptor, never into `argv`. The environment is built from names, so nothing leaks by
inheritance.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

from claude_bottle.errors import BottleError

if TYPE_CHECKING:
    import subprocess

_STDERR_LIMIT = 1 << 16  # bytes of complaints that are kept: the last ones
_CHUNK = 1 << 20
_TICK = 0.05  # seconds after which a program's end is noticed where something else holds its pipes
_ALWAYS = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
)


class Command(NamedTuple):
    """argv, the names of the environment that it sees, and what stands on its standard input."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    stdin_file: tuple[str, int] | None = None  # or a file's path, and where to begin in it
    cwd: str | None = None
    keep: tuple[str, ...] = ()  # names kept of the caller's environment, besides the harmless ones
    environment: tuple[tuple[str, str], ...] = ()
    timeout: float = 120.0  # seconds
    limit: int = 64 << 20  # bytes of output that are taken; more is an error


class Result(NamedTuple):
    status: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line that was written to standard error."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


class ProgramMissing(BottleError):
    """A program that is needed is not on this machine."""


class TimeOver(BottleError):
    """A program did not end in its time, and was killed."""


class Runner(Protocol):
    """Runs commands. The real one is `SystemRunner`."""

    def run(self, command: Command) -> Result:
        """Runs to the end. Raises ProgramMissing, TimeOver, or BottleError for endless output."""
        ...


class SystemRunner:
    """Runs commands on this host."""

    def __init__(self, host_environment: Mapping[str, str] = os.environ) -> None:
        self._host_environment = host_environment

    def run(self, command: Command) -> Result:
        import subprocess

        with _input(command) as stdin:
            try:
                process = subprocess.Popen(
                    command.argv,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=command.cwd,
                    env=environment_for(command, self._host_environment),
                )
            except OSError as error:
                raise _cannot_start(command, error) from error
            with process:
                try:
                    stdout, stderr = _collect(process, command)
                except BaseException:
                    process.kill()
                    raise
            return Result(process.returncode, stdout, stderr)


def _input(command: Command) -> IO[bytes]:
    """What a program reads: a file, as a pipe would have to be fed while its output is read."""
    if command.stdin_file is not None:
        path, offset = command.stdin_file
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        file.seek(offset)
        return file
    if not command.stdin:
        return open(os.devnull, "rb")
    scratch = open(os.memfd_create("stdin"), "w+b")  # noqa: SIM115 - the caller closes it
    scratch.write(command.stdin)
    scratch.seek(0)
    return scratch


def _cannot_start(command: Command, error: OSError) -> BottleError:
    name = command.argv[0]
    if isinstance(error, FileNotFoundError) and not (command.cwd and error.filename == command.cwd):
        return ProgramMissing(f"{name} was not found", f"install {name}")
    return BottleError(f"{name} cannot be started: {error.filename}: {error.strerror}")


def _collect(process: subprocess.Popen[bytes], command: Command) -> tuple[bytes, bytes]:
    """Output and the last complaints, until the program ends. It may be hostile: size and time have limits.

    Both are read all the time, as a program that cannot write does not end. When it has ended, what it left
    in the background may still hold the pipes and is not waited for.
    """
    import select
    import time

    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = process.stdout.fileno(), process.stderr.fileno()
    deadline = time.monotonic() + command.timeout
    output, complaints, still_open = bytearray(), bytearray(), [stdout, stderr]
    while True:
        if not still_open and process.poll() is None:
            _await_end(process, command, deadline)
        ended = process.poll() is not None  # asked first: all that it wrote is then in the pipes
        ready = select.select(still_open, [], [], 0.0 if ended else _TICK)[0]
        if ended and not ready:
            return bytes(output), bytes(complaints)
        if not ended and time.monotonic() > deadline:
            raise _time_over(command)
        for descriptor in ready:
            part = os.read(descriptor, _CHUNK)
            if not part:
                still_open.remove(descriptor)
            elif descriptor == stdout:
                output += part
            else:
                complaints = (complaints + part)[-_STDERR_LIMIT:]
        if len(output) > command.limit:
            raise BottleError(f"{command.argv[0]} said more than {command.limit >> 20} MiB")


def _await_end(process: subprocess.Popen[bytes], command: Command, deadline: float) -> None:
    """`Popen.wait` with a limit would look again and again, and sleep meanwhile."""
    import select
    import time

    pidfd = os.pidfd_open(process.pid)  # it is not reaped yet, so it is still this one
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise _time_over(command)
    finally:
        os.close(pidfd)


def _time_over(command: Command) -> TimeOver:
    return TimeOver(f"{command.argv[0]} did not end within {command.timeout:.0f} s")


def environment_for(command: Command, host: Mapping[str, str]) -> dict[str, str]:
    kept = {name: host[name] for name in (*_ALWAYS, *command.keep) if name in host}
    return kept | dict(command.environment)


def checked(runner: Runner, command: Command, failure: str) -> Result:
    """Runs and raises BottleError with `failure` and the program's last words unless it ended well."""
    result = runner.run(command)
    if result.status != 0:
        raise BottleError(f"{failure}: {result.complaint}")
    return result


def find_program(name: str, path: str | None = None) -> str | None:
    """The absolute path of a program, or None."""
    for directory in (path if path is not None else os.environ.get("PATH", os.defpath)).split(os.pathsep):
        candidate = os.path.join(directory or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    return None
