"""A throw-away operator: a home, a manifest with one agent, a small git repository, and the product.

Invariant: when it is closed no bottle of it runs and its folder is gone. What it does is what a user does:
every bottle is started and stopped by the installed command.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import COMMAND, UnmeasuredError, timed_lines, whole_process
from claude_bottle.backend import load_backend
from claude_bottle.errors import BottleError
from claude_bottle.state.paths import Home, is_slug, list_slugs
from claude_bottle.state.store import load

AGENT = "bench"
_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "CLAUDE_BOTTLE_CLAUDE",
    "CLAUDE_BOTTLE_ENVOY",
    "SSL_CERT_FILE",
)
_NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing of a bottle's is to be answered


@dataclass(frozen=True, slots=True)
class Start:
    """One start: what it made, its seconds in all, and those of each step as they followed each other."""

    slug: str
    seconds: float
    steps: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """Everything is below `folder`."""

    folder: Path
    environment: dict[str, str]
    backend: str = "bubblewrap"

    @property
    def home(self) -> Home:
        return Home(self.folder / "bottles")

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def start(self) -> Start:
        argv = [COMMAND, "start", AGENT, "--detach", "--yes", "--backend", self.backend]
        output, lines, seconds = timed_lines(argv, self.environment, self.repository)
        slug = output.strip()
        if not is_slug(slug):
            raise UnmeasuredError(f"start printed {slug[:60]!r} instead of a slug")
        return Start(slug, seconds, critical_path(lines, seconds))

    def stop(self, slug: str) -> None:
        whole_process([COMMAND, "stop", slug], self.environment, self.repository)

    @contextmanager
    def running(self) -> Iterator[str]:
        """A bottle, for as long as this lasts."""
        slug = self.start().slug
        try:
            yield slug
        finally:
            self.stop(slug)

    def seconds_of(self, *arguments: str) -> float:
        """The whole process of `claude-bottle ARGUMENTS`."""
        return whole_process([COMMAND, *arguments], self.environment, self.repository)

    def commit(self, files: dict[str, str]) -> None:
        """Makes the repository anew, with these files in one commit."""
        shutil.rmtree(self.repository, ignore_errors=True)
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "Start")):
            argv = ["git", "-C", str(self.repository), *arguments]
            whole_process(argv, self.environment)

    def slugs(self) -> list[str]:
        return list_slugs(self.home)

    def declare(self, upstream: str | None = _NOWHERE) -> None:
        """Writes the manifest: one bottle, whose API is at `upstream`."""
        moved = {"upstream": upstream} if upstream else {}
        bottle = {"egress": {"routes": [{"host": "api.anthropic.com", **moved}]}}
        manifest = {"bottles": {AGENT: bottle}, "agents": {AGENT: {"bottle": AGENT, "prompt": "Be brief."}}}
        self.home.root.mkdir(mode=0o700, exist_ok=True)
        (self.home.root / "claude-bottle.json").write_text(json.dumps(manifest))

    def close(self) -> None:
        """Ends what still runs, however far it came, and removes everything."""
        backend = load_backend(self.backend)
        for slug in self.slugs():
            paths = self.home.bottle(slug)
            try:
                metadata = load(self.home, slug)
                bottle = backend.find(metadata, paths)
                if bottle is not None:
                    bottle.stop()
                backend.discard(metadata, paths)
                backend.forget(metadata, paths)
            except BottleError as error:
                raise UnmeasuredError(f"{slug} does not end: {error.message}") from error
        shutil.rmtree(self.folder)


def critical_path(lines: list[tuple[float, str]], seconds: float) -> tuple[tuple[str, float], ...]:
    """The steps by when they were reported: "prepare" up to the preflight, then each named one, then the end.

    Not by the times that they report themselves, as some of them go on side by side.
    """
    found: list[tuple[str, float]] = []
    before = 0.0
    for moment, line in lines:
        name = step_name(line)
        if name is None and found:
            continue
        found.append((name or "prepare", moment - before))
        before = moment
    return (*found, ("rest", seconds - before))


def step_name(line: str) -> str | None:
    """`  proved by 7 checks from inside 181 ms` is the step "proved"; None for a line that is no step."""
    words = line.split()
    is_step = line.startswith("  ") and len(words) > 2 and words[-1] == "ms" and words[-2].isdigit()
    return words[0] if is_step else None


@contextmanager
def operator(backend: str = "bubblewrap") -> Iterator[Operator]:
    folder = Path(tempfile.mkdtemp(prefix="claude-bottle-bench-"))
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
        "HOME": str(folder),
        "CLAUDE_BOTTLE_HOME": str(folder / "bottles"),
        "ANTHROPIC_API_KEY": "fake",
        "GIT_AUTHOR_NAME": AGENT,
        "GIT_AUTHOR_EMAIL": "bench@bottle.invalid",
        "GIT_COMMITTER_NAME": AGENT,
        "GIT_COMMITTER_EMAIL": "bench@bottle.invalid",
    }
    made = Operator(folder, environment, backend)
    try:
        made.commit({"README.md": "A small repository.\n"})
        made.declare(None if backend == "docker" else _NOWHERE)  # a container's loopback is another
        yield made
    finally:
        made.close()
