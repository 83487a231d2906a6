"""What every backend offers, so that nothing above needs to know which one it is.

A backend looks at the host (`check`), computes a frozen plan (`plan`, pure given what was seen) and then
does what the plan says (`launch`). A launched bottle belongs to the launching process until it is told
`keep`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from claude_bottle.manifest.model import Limits
    from claude_bottle.policy.live import LiveRoute
    from claude_bottle.policy.model import Policy
    from claude_bottle.proc import Result
    from claude_bottle.sidecars.egress.certs import CertAndKey
    from claude_bottle.state.harvest import Left
    from claude_bottle.state.metadata import Metadata
    from claude_bottle.state.paths import BottlePaths

NODE_HOME = "/home/node"
WORKSPACE = "/home/node/workspace"
CLAUDE = "/opt/claude-bottle/bin/claude"
AUTHORITIES = "/opt/claude-bottle/authorities.pem"  # the host's, and the bottle's own
SESSION_DATA = (  # what Claude Code keeps of its conversations, below its folder; no credential and no cache
    *("projects", "todos", "tasks", "plans", "teams", "jobs"),
    *("file-history", "paste-cache", "image-cache", "uploads", "agent-memory"),
)
GATE_PORT = 9099
SUPERVISE_PORT = 9100  # where its agent may propose changes; else nothing listens there
_ENDING_SECONDS = 10.0

Progress = Callable[[str, float], None]  # a step's name and its milliseconds


class Readiness(NamedTuple):
    """Whether a backend can be used here; where not, why and how to mend it. `facts` are for doctor."""

    ok: bool
    reason: str = ""
    hint: str | None = None
    facts: tuple[tuple[str, str], ...] = ()


class Grant(NamedTuple):
    """A host file or folder that is shown inside a bottle."""

    source: str
    target: str
    writable: bool = False
    owned_by_operator: bool = False  # shown as the bottle user's own, whoever owns it outside
    overlay: str | None = None  # a folder that takes the writes, so that `source` keeps unchanged


class BottleRequest(NamedTuple):
    """What a bottle shall be, in no backend's terms."""

    slug: str
    agent: str
    bottle: str
    paths: BottlePaths
    grants: tuple[Grant, ...]
    environment: tuple[tuple[str, str], ...]
    limits: Limits
    policy: Policy
    services: tuple[str, ...]
    supervised: bool = True  # whether its agent may propose changes
    patience: float | None = None  # seconds for which a proposal waits for an answer; None is for ever
    image: str | None = None  # what its file system is made of, where the backend makes one
    dockerfile: str | None = None
    packages: tuple[str, ...] = ()
    added: str = ""  # lines of a Dockerfile that are carried out after all that
    runtime: str | None = None  # what stands between its programs and the host's kernel, where not nothing


class Secrets(NamedTuple):
    """Values that enter the bottle's environment but no file, argument or log."""

    environment: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"<{len(self.environment)} private variables>"


class BundlePlan(NamedTuple):
    """What the sidecars of a bottle are started with, besides its policy. Nothing prints the credentials."""

    leaves: Mapping[str, CertAndKey]
    credentials: Mapping[str, str]  # by `str(SecretRef)`; they never enter the bottle
    authority: CertAndKey | None = None  # what signed the leaves, for hosts that are added later
    grants: tuple[LiveRoute, ...] = ()  # approved in an earlier life of the bottle, and still good

    def __repr__(self) -> str:
        return f"<{len(self.leaves)} leaves, {len(self.credentials)} credentials, {len(self.grants)} grants>"


class EnvoyFiles(NamedTuple):
    """Host paths: the program, and the certificate authorities that upstream servers are checked by."""

    binary: str
    authorities: str


FindEnvoy = Callable[[], EnvoyFiles]  # raises BottleError where there is none


class MakeBundle(Protocol):
    """Makes what the sidecars need, and fills the state folder; called while they come up."""

    def fill(self) -> None:
        """Then all that the bottle is shown is there, but for the authorities' content."""
        ...

    def __call__(self) -> BundlePlan:
        """Fills as well, where nobody has."""
        ...


class BottlePlan(Protocol):
    """A frozen description of all that a launch will do; a backend adds its own part."""

    @property
    def request(self) -> BottleRequest: ...

    @property
    def backend_name(self) -> str: ...

    def protections(self) -> tuple[str, ...]:
        """What holds the bottle, a line each, for the preflight."""
        ...

    def caveats(self) -> tuple[str, ...]:
        """What this backend does not protect against on this host, a line each."""
        ...


class ActiveAgent(NamedTuple):
    """A row of `list`. `warning` tells of a bottle, or a whole backend, that could not be looked at."""

    backend_name: str
    slug: str
    agent_name: str
    started_at: float
    services: tuple[str, ...]
    warning: str = ""
    down: tuple[str, ...] = ()  # of this bottle's own services, as its sidecars say it


class SessionFile(NamedTuple):
    """What a program inside, Claude Code if it is honest, wrote of itself. Nothing of it is trusted."""

    name: str
    content: bytes
    written: float


class Program(NamedTuple):
    """A process of a bottle."""

    pid: int  # as the bottle numbers it
    started: str  # in clock ticks after the boot of its kernel: with the number it is this process's own
    outside: int  # as the host numbers it


class Look(NamedTuple):
    """What more can be seen of a running bottle from outside, for showing only."""

    ready: bool = True  # False while it comes up
    sessions: tuple[SessionFile, ...] = ()
    programs: tuple[Program, ...] | None = None  # None where they cannot be told apart from here
    memory: int | None = None  # bytes, of its programs; None where it cannot be known


class Watching(NamedTuple):
    """Both looks of a backend for a screen, `look` right after `active`; for one thread at a time."""

    active: Callable[[], list[ActiveAgent]]
    look: Callable[[Sequence[str]], Iterator[tuple[str, Look]]]  # `memory` may be left out


class Remain(NamedTuple):
    """Something on the host that a bottle has left, and that nothing will use again."""

    kind: str  # "container", "volume", "control group": what the host calls it
    name: str
    slug: str
    reason: str


class Bottle(ABC):
    """A running bottle, from outside."""

    slug: str
    variables: tuple[str, ...] = ()  # of the operator's environment, that `command` needs to be run with

    @abstractmethod
    def command(self, argv: list[str], *, tty: bool, directory: str = WORKSPACE) -> list[str]:
        """The host command that runs `argv` inside: the framing, then the inner command."""

    @abstractmethod
    def exec(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        timeout: float = 120.0,
        directory: str = WORKSPACE,
        limit: int = 64 << 20,
    ) -> Result:
        """Runs `argv` inside and returns what it said."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the bottle and its sidecars; the state stays. Fine if it has ended already."""

    @abstractmethod
    def probe(self, questions: bytes, timeout: float) -> Result:
        """Runs the probe (see `backend.probe`) inside."""

    @abstractmethod
    def control(self, request: Mapping[str, object], timeout: float = 5.0) -> dict[str, Any]:
        """What the bottle's sidecars answer to one question or change; see `sidecars.control`.

        Raises BottleError where they do not answer in time. Then a change may have happened or not.
        """

    @abstractmethod
    def keep(self) -> None:
        """From now on the bottle outlives the process that launched it."""

    def carry(self, argv: list[str], *, tty: bool, directory: str = WORKSPACE) -> int:
        """Runs `argv` inside on this process's own streams; returns its status, or becomes what runs it."""
        framed = self.command(argv, tty=tty, directory=directory)
        os.execvp(framed[0], framed)

    def claude_argv(self, argv: list[str], *, tty: bool = True) -> list[str]:
        return self.command([CLAUDE, *argv], tty=tty)

    def exec_claude(self, argv: list[str], *, tty: bool = True) -> int:
        """Runs Claude Code on this process's own terminal or pipes, and returns its exit status."""
        import subprocess

        with subprocess.Popen(self.claude_argv(argv, tty=tty)) as process:
            try:
                return process.wait()
            except BaseException:
                process.terminate()  # so it gives the terminal back; killed, it could not
                try:
                    process.wait(_ENDING_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise

    def copy_in(self, data: bytes, target: str) -> None:
        """Writes a file inside, as the bottle's user. Raises BottleError."""
        from claude_bottle.errors import BottleError

        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
        done = self.exec(["sh", "-c", script, "sh", target], stdin=data)
        if done.status != 0:
            raise BottleError(f"cannot write {target} in {self.slug}: {done.complaint}")

    def copy_out(self, source: str) -> bytes:
        """A file's content; never a path, a link or a mode of the bottle's choosing. Raises BottleError."""
        from claude_bottle.errors import BottleError

        done = self.exec(["cat", "--", source])
        if done.status != 0:
            raise BottleError(f"cannot read {source} in {self.slug}: {done.complaint}")
        return done.stdout


class Warm(Protocol):
    """Something that `warm_up` has started; `launch` takes it over, or somebody ends it."""

    def abandon(self) -> None: ...


class BottleBackend(ABC):
    """One way to isolate. Instances are cheap and hold nothing that must be closed."""

    name: ClassVar[str]
    handles: ClassVar[frozenset[str]] = frozenset()  # keys of a bottle that not every backend can do
    services: ClassVar[tuple[str, ...]] = ("egress", "firewall")  # that a whole bottle has
    home_stays: ClassVar[bool] = True  # the bottle's home can still be read when `stop` has ended it
    variables: ClassVar[tuple[str, ...]] = ()  # of the operator's environment, by which bottles are found

    @abstractmethod
    def check(self) -> Readiness:
        """Quick: may bottles be made here? Never raises for a host that is unfit."""

    @abstractmethod
    def examine(self) -> Readiness:
        """Thorough: like `check`, but tries it."""

    @abstractmethod
    def plan(self, request: BottleRequest) -> BottlePlan:
        """Raises BackendMissingError where `check` is not ok."""

    def warm_up(self, state: Path, envoy: FindEnvoy) -> Warm | None:
        """Starts what every launch needs and no plan decides, to be ready sooner.

        `state` is the folder of all bottles' state.
        """
        return None

    def build(self, plan: BottlePlan, progress: Progress) -> None:
        """Makes what a launch would first have to make. Raises BottleError; then nothing has changed."""
        return

    @abstractmethod
    def launch(
        self,
        plan: BottlePlan,
        secrets: Secrets,
        envoy: EnvoyFiles,
        bundle: MakeBundle,
        progress: Progress,
        warm: Warm | None = None,
    ) -> Bottle:
        """Starts the bottle and its bundle; on any failure nothing is left running. Raises BottleError.

        `warm` is used up, whatever happens.
        """

    @abstractmethod
    def find(self, metadata: Metadata, paths: BottlePaths) -> Bottle | None:
        """The running bottle of this state folder, or None."""

    @abstractmethod
    def active(self, state: Path) -> list[ActiveAgent]:
        """All running bottles of this backend whose state is below `state`."""

    @abstractmethod
    def look(self, slugs: Sequence[str], state: Path) -> Iterator[tuple[str, Look]]:
        """Each of these bottles as soon as it was seen; one that has ended meanwhile is left out.

        Raises BottleError where none of them can be looked at.
        """

    def watch(self, state: Path) -> Watching:
        """As `active` and `look`, but what has not changed since the last time may be known already."""
        return Watching(lambda: self.active(state), lambda slugs: self.look(slugs, state))

    def remains(self, state: Path) -> list[Remain]:
        """What bottles below `state` have left outside of it. Raises BottleError where it cannot be known."""
        return []

    def clean(self, remains: Sequence[Remain]) -> None:
        """Removes what `remains` has found. Raises BottleError where something is left."""
        return

    def logs_at_hand(self, paths: BottlePaths) -> bool:
        """Whether the state folder has the logs of a running bottle as they are written."""
        return True

    def gather_logs(self, metadata: Metadata, paths: BottlePaths) -> None:
        """Brings the logs of a running bottle into the state folder, where they are not there anyway."""
        return

    def take_session(self, metadata: Metadata, paths: BottlePaths, target: Path) -> Left:
        """Copies `SESSION_DATA` into `target`, of a bottle that runs or has ended; returns what was left out.

        Raises BottleError or OSError where it cannot be had, or not be written.
        """
        from claude_bottle.state.harvest import copy_trees

        return copy_trees(paths.home, (".claude",), SESSION_DATA, target)

    def forget(self, metadata: Metadata, paths: BottlePaths) -> None:
        """Removes from the host what was preserved of a discarded bottle outside its state folder."""
        return

    @abstractmethod
    def discard(self, metadata: Metadata, paths: BottlePaths) -> None:
        """Removes from the host what a bottle that has ended may have left there."""
