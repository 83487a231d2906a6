"""The real command line in a world of its own: a home, a git repository and a scripted model, all thrown away.

Invariant: nothing of the operator's environment is seen, and `leftovers` finds whatever still belongs to it.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from claude_bottle.scripted.parse import load_script, parse_script
from claude_bottle.scripted.script import Script
from claude_bottle.scripted.server import ScriptedModel
from tests.support.done import Done
from tests.support.traces import engine_says, groups_of, processes_of, traces

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests" / "fixtures" / "scripts"
PATIENCE = 120.0  # seconds for what takes two on a quiet machine
_MAIN = "import sys; sys.path[:0] = {path!r}; from claude_bottle.cli import main; sys.exit(main())"


def python_main(python: str = sys.executable) -> tuple[str, ...]:
    """`claude-bottle` by this interpreter, from this checkout and with this environment's packages."""
    return (python, "-I", "-c", _MAIN.format(path=[str(ROOT), sysconfig.get_path("platlib")]))


@dataclass
class Cli:
    """One operator. `agent` is a name that no other test uses, so that what is left behind has an owner."""

    root: Path
    backend: str
    claude: Path
    envoy: Path
    uid: int | None = None  # the identity to run as; None is our own
    command: tuple[str, ...] = field(default_factory=python_main)
    agent: str = field(default_factory=lambda: f"agent-{secrets.token_hex(4)}")
    key: str = field(default_factory=lambda: f"sk-ant-{secrets.token_hex(20)}")
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in (self.user_home, self.project, self.tmp):
            folder.mkdir()
        self.give()

    @property
    def user_home(self) -> Path:
        return self.root / "operator"

    @property
    def home(self) -> Path:
        return self.root / "bottles-home"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.user_home),
            "TMPDIR": str(self.tmp),
            "LANG": "C.UTF-8",
            "CLAUDE_BOTTLE_HOME": str(self.home),
            "CLAUDE_BOTTLE_BACKEND": self.backend,
            "CLAUDE_BOTTLE_CLAUDE": str(self.claude),
            "CLAUDE_BOTTLE_ENVOY": str(self.envoy),
            "ANTHROPIC_API_KEY": self.key,
            "GIT_CONFIG_NOSYSTEM": "1",
            **self.more,
        }

    # Commands

    def __call__(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
        timeout: float = PATIENCE,
    ) -> Done:
        done = subprocess.run(
            [*self.command, *arguments],
            input=stdin,
            capture_output=True,
            cwd=cwd or self.project,
            env=self._environment(env, without),
            timeout=timeout,
            check=False,
            **self._identity,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def begun(
        self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs beside the test; it is killed at the end, or when nobody can wait any longer."""
        with subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or self.project,
            env=self._environment(env, ()),
            **self._identity,
        ) as process:
            watchdog = threading.Timer(PATIENCE, process.kill)
            watchdog.start()
            try:
                yield process
            finally:
                watchdog.cancel()
                process.kill()

    def start(self, *options: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """A bottle that runs; its slug."""
        return self("start", self.agent, "--detach", "--yes", *options, cwd=cwd, env=env).ok().text.strip()

    def inside(self, slug: str, script: str, stdin: bytes = b"") -> Done:
        """A shell script run in a bottle."""
        return self("exec", slug, "--", "sh", "-c", script, stdin=stdin)

    def kill_claude(self, slug: str) -> None:
        """Every Claude Code in a bottle; a minimal system has no pkill."""
        claude = "readlink $p/exe | grep -q /claude && kill -KILL ${p#/proc/}"
        self.inside(slug, f"for p in /proc/[0-9]*; do {claude}; done; true").ok()

    def slugs(self) -> list[str]:
        return [row[1] for row in self("list").ok().rows]

    def preserved(self) -> list[str]:
        return [row[1] for row in self("list", "preserved").ok().rows]

    def git(self, *arguments: str, cwd: Path | None = None, stdin: bytes = b"") -> str:
        return self.git_bytes(*arguments, cwd=cwd, stdin=stdin).decode().rstrip("\n")

    def git_bytes(self, *arguments: str | bytes, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
        fixed = ("-c", "user.name=Operator", "-c", "user.email=operator@example.org")
        done = subprocess.run(
            ["git", *fixed, *arguments],
            cwd=cwd or self.project,
            env={
                **self.env,
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "protocol.file.allow",
                "GIT_CONFIG_VALUE_0": "always",
            },
            input=stdin,
            capture_output=True,
            check=False,
            **self._identity,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def _environment(self, env: Mapping[str, str] | None, without: Sequence[str]) -> dict[str, str]:
        return {name: value for name, value in {**self.env, **(env or {})}.items() if name not in without}

    @property
    def _identity(self) -> dict[str, Any]:
        return {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}

    # The world

    def give(self) -> None:
        """Lets the identity own what the test wrote."""
        if self.uid is not None:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def manifest(
        self, upstream: str | None = None, bottle: str = "", agent: str = "", prompt: str = "Be brief."
    ) -> None:
        """One bottle whose API is `upstream`, one agent in it; `bottle` and `agent` are more YAML for each."""
        routes = (
            f"egress:\n  routes:\n  - host: api.anthropic.com\n    upstream: {upstream}\n" if upstream else ""
        )
        write(self.home / "bottles" / "dev.md", f"---\n{routes}{bottle}---\n")
        write(self.home / "agents" / f"{self.agent}.md", f"---\nbottle: dev\n{agent}---\n{prompt}\n")
        self.give()

    def repository(self, folder: Path | None = None, *options: str) -> Path:
        """A repository with one wrong line and a test that shows it."""
        folder = folder or self.project
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "adder.py", "def add(a, b):\n    return a - b\n")
        write(folder / "test_adder.py", _TEST)
        write(folder / ".gitignore", "__pycache__/\n")
        self.give()
        self.git("init", "-q", "-b", "main", *options, cwd=folder)
        self.git("add", ".", cwd=folder)
        self.git("commit", "-qm", "Start", cwd=folder)
        return folder

    def refs(self, slug: str, cwd: Path | None = None) -> dict[str, str]:
        """What came back of a bottle: name below refs/bottles/SLUG/ -> commit."""
        prefix = f"refs/bottles/{slug}/"
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)", prefix, cwd=cwd)
        pairs = (line.split(" ") for line in listed.splitlines())
        return {name.removeprefix(prefix): commit for name, commit in pairs}

    def keeper(self, slug: str) -> int:
        """The process that keeps a bottle alive."""
        pid = self.keeper_or_none(slug)
        assert pid
        return pid

    def keeper_or_none(self, slug: str) -> int | None:
        from claude_bottle.backend.bubblewrap.lock import lock_holder

        return lock_holder(str(self.state / slug / "run")) or None

    def kill(self, slug: str) -> None:
        """Everything of a bottle, without a word."""
        if self.backend == "bubblewrap":
            os.kill(self.keeper(slug), signal.SIGKILL)
        else:
            subprocess.run(["docker", "kill", f"claude-bottle-{slug}"], capture_output=True, check=True)

    def processes(self, words: str) -> list[int]:
        """Those of this world whose command line has these words."""
        return [pid for pid, command in self._processes() if words in command]

    def named_by(self, pid: int) -> bool:
        """Whether the process itself says that it is of this world: by its command line or its folder."""
        return any(
            needle in text for text in islice(traces(pid), 2) for needle in (str(self.root), self.agent)
        )

    def leftovers(self) -> list[str]:
        """Every process and control group that belongs to this world."""
        return [
            *(f"{pid}: {what}" for pid, what in self._processes()),
            *groups_of(f"claude-bottle-{self.agent}-"),
            *self.containers(),
        ]

    def containers(self) -> list[str]:
        """Those of this world, whether they run or not."""
        return self._of_engine("ps", "--all", "--format", "{{.Names}}")

    def container_ids(self) -> list[str]:
        """Of those that run."""
        return self._of_engine("ps", "--no-trunc", "--quiet")

    def volumes(self) -> list[str]:
        return self._of_engine("volume", "ls", "--quiet")

    def _of_engine(self, *question: str) -> list[str]:
        return engine_says(*question, name=self.agent) if self.backend == "docker" else []

    def assert_nothing_runs(self) -> None:
        """Asks no engine, which may be down."""
        eventually(lambda: not [*self._processes()], lambda: f"these run: {[*self._processes()]}")

    def assert_nothing_is_left(self) -> None:
        """No process and no control group, which a killed keeper leaves for the next `stop`."""
        eventually(lambda: not self.leftovers(), lambda: "\n".join(self.leftovers()))

    def _processes(self) -> Iterator[tuple[int, str]]:
        return processes_of((str(self.root), self.agent))

    def close(self) -> None:
        """Ends every bottle, then whatever is left of this world."""
        if self.state.is_dir():
            for slug in self.slugs():
                self("stop", slug)
        deadline = time.monotonic() + 10
        while (left := list(self._processes())) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid, _ in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if volumes := self.volumes():  # of bottles whose state was preserved
            subprocess.run(["docker", "volume", "rm", *volumes], capture_output=True, check=False)


def eventually(holds: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it never happened") -> None:
    """Waits for what must come; fails after a time that no machine needs."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.02)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def scripted(*turns: Mapping[str, Any], **more: Any) -> ScriptedModel:
    return ScriptedModel(parse_script({"name": "test", "turns": list(turns), **more}))


def bash(command: str) -> dict[str, Any]:
    """A turn in which the model runs a command."""
    return {"tools": [{"name": "Bash", "input": {"command": command}}]}


def fix_the_test() -> Script:
    return load_script(SCRIPTS / "fix-the-test.yaml")


_TEST = """import unittest

from adder import add


class Adds(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)
"""
