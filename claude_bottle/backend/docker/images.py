"""The images of a bottle: what they are made of, the names that follow from it, and building them.

Invariant: an image's tag is a digest of all that goes into it, so an image that is there is the right one and
nothing is built twice. A build gets its files through a pipe: the engine may be on another machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import claude_bottle
from claude_bottle.backend.base import Progress
from claude_bottle.backend.beside import Beside
from claude_bottle.backend.docker.api import EngineError
from claude_bottle.backend.docker.engine import docker
from claude_bottle.backend.seccomp import compile_filter
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.proc import environment_for
from claude_bottle.text import shown

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

DEFAULT_BASE = "debian:bookworm-slim"
LOCAL_BASE = "claude-bottle/base:bookworm"  # what script/base-image makes
_RECIPES = Path(__file__).parent / "images"
_PACKAGE = Path(claude_bottle.__file__).parent
_AGENT_PACKAGES = (
    *("bash", "ca-certificates", "curl", "git", "jq", "less", "openssh-client"),
    *("procps", "python3", "ripgrep", "tar", "xz-utils"),
)
_BUNDLE_PACKAGES = ("python3", "util-linux")
_BUNDLE_LIB = ("__init__.py", "errors.py", "text.py", "policy", "sidecars")
_AGENT_LIB = (
    *("__init__.py", "errors.py", "backend/__init__.py"),
    *("backend/probe.py", "backend/linux.py", "backend/remote", "backend/terminal.py"),
    *("sidecars/__init__.py", "sidecars/handing.py", "sidecars/ferry.py"),
)
_ELF_MACHINES = {"x86_64": 0x3E, "aarch64": 0xB7}
_LAST_LINES = 12
_NO_SUCH_IMAGE = 404
_NO_ROOM = "no space left on device"
_TALK = ("DEPRECATED:", "Install the buildx", "https://docs.docker.com/go/buildx", "Sending build context")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STEP = re.compile(r"Step \d+/\d+ : |#\d+ \[")  # as the engine's old builder says it, and as BuildKit does


class Recipe(NamedTuple):
    """`files` are (path in the context, content or host path, mode)."""

    name: str
    dockerfile: str
    arguments: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, bytes | Path, int], ...]

    def tag(self, digests: Mapping[Path, str]) -> str:
        """`digests` are of the host files that it names."""
        found = hashlib.sha256(self.dockerfile.encode())
        found.update(json.dumps(self.arguments).encode())
        for path, source, mode in self.files:
            content = digests[source] if isinstance(source, Path) else hashlib.sha256(source).hexdigest()
            found.update(f"{path}\0{content}\0{mode:o}\n".encode())
        return f"claude-bottle/{self.name}:{found.hexdigest()[:16]}"


def agent_recipe(base: str, claude: Path, packages: Iterable[str], uid: int, machine: str) -> Recipe:
    wanted = (*_AGENT_PACKAGES, *packages)
    return Recipe(
        "agent",
        (_RECIPES / "agent.Dockerfile").read_text(),
        (("BASE", base), ("PACKAGES", " ".join(wanted)), ("UID", str(uid))),
        (
            ("anchor", (_RECIPES / "anchor").read_bytes(), 0o755),
            ("claude", claude, 0o755),
            ("filter.bpf", compile_filter(machine), 0o644),
            *_library(_AGENT_LIB),
        ),
    )


def bundle_recipe(base: str, envoy: Path, machine: str) -> Recipe:
    return Recipe(
        "bundle",
        (_RECIPES / "bundle.Dockerfile").read_text(),
        (("BASE", base), ("PACKAGES", " ".join(_BUNDLE_PACKAGES))),
        (
            ("envoy", envoy, 0o755),
            ("envoy.bpf", compile_filter(machine), 0o644),
            *_library(_BUNDLE_LIB),
        ),
    )


def user_recipe(dockerfile: Path) -> Recipe:
    """The operator's own Dockerfile, built without a context. Raises NotFoundError."""
    try:
        return Recipe("own", dockerfile.read_text(), (), ())
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"the dockerfile {dockerfile} cannot be read: {error}") from error


def added_recipe(base: str, lines: str) -> Recipe:
    """What was approved since the start: RUN lines, and no context that they could copy from."""
    return Recipe("added", f"ARG BASE\nFROM ${{BASE}}\nUSER root\n{lines}\n", (("BASE", base),), ())


def _library(names: Iterable[str]) -> list[tuple[str, bytes, int]]:
    """The part of this package that runs in a container; it imports nothing else."""
    found = []
    for name in names:
        top = _PACKAGE / name
        paths = [top] if top.is_file() else sorted(top.rglob("*.py"))
        found += [
            (f"lib/claude_bottle/{path.relative_to(_PACKAGE)}", path.read_bytes(), 0o644) for path in paths
        ]
    return found


def digest_files(paths: Iterable[Path], cache: Path) -> dict[Path, str]:
    """SHA-256 of each; `cache` remembers them by size and time of change, as they are large."""
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError, RecursionError):
        known = {}
    found, new, changed = {}, {}, False
    for path in paths:
        seen = path.stat()
        key = f"{path.resolve()} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"
        digest = known.get(key) if isinstance(known, dict) else None
        changed |= not isinstance(digest, str)
        if not isinstance(digest, str):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path] = new[key] = digest
    if changed:
        temporary = cache.with_name(f".{cache.name}.{os.getpid()}")
        temporary.write_text(json.dumps(new))
        os.rename(temporary, cache)
    return found


def check_machine(program: Path, machine: str) -> None:
    """Raises BottleError where a program is not for Linux on the engine's processor (elf(5))."""
    with open(program, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or int.from_bytes(head[18:20], "little") != _ELF_MACHINES[machine]:
        raise BottleError(
            f"{program} is not a program for Linux on {machine}, as the engine needs it",
            "name one that is: CLAUDE_BOTTLE_CLAUDE or CLAUDE_BOTTLE_ENVOY",
        )


def missing(engine: Engine, tags: Iterable[str]) -> tuple[str, ...]:
    """Those that the engine does not have. Raises EngineError where it does not say."""
    return tuple(tag for tag in dict.fromkeys(tags) if not _is_there(engine, tag))


def _is_there(engine: Engine, tag: str) -> bool:
    try:
        engine.ask("GET", f"/images/{tag}/json")
    except EngineError as error:
        if error.status != _NO_SUCH_IMAGE:
            raise
        return False
    return True


def build(runner_environment: Mapping[str, str], recipe: Recipe, tag: str, progress: Progress) -> None:
    """Raises BottleError with the engine's last lines."""
    argv = ["docker", "build", "--force-rm", "--tag", tag, "--label", "io.claude-bottle.role=image"]
    for name, value in recipe.arguments:
        argv += ["--build-arg", f"{name}={value}"]
    environment = environment_for(docker("build"), runner_environment) | {"BUILDKIT_PROGRESS": "plain"}
    process = subprocess.Popen(
        [*argv, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    with process:
        assert process.stdout is not None
        feeding = Beside(lambda: _feed(process, recipe))
        lines = _watch(process.stdout, recipe.name, progress)
        whole = feeding.wait()
    if process.returncode != 0 or not whole:
        raise BottleError(f"the image {recipe.name} cannot be built: {lines[-1]}", _advice(lines))


def _advice(lines: list[str]) -> str:
    if _NO_ROOM in lines[-1]:
        return "the engine's disk is full: make room (docker system df says what it holds), then start again"
    return "\n".join(line for line in lines[:-1] if not line.startswith(_TALK))


def _feed(process: subprocess.Popen[bytes], recipe: Recipe) -> bool:
    """False where the engine did not want all of it. What cannot be read must not end as if that were all."""
    assert process.stdin is not None
    try:
        with process.stdin as stdin:
            try:
                write_context(recipe, stdin)
            except BrokenPipeError:
                return False
            except BaseException:
                process.kill()
                raise
    except BrokenPipeError:
        return False
    return True


def write_context(recipe: Recipe, stream: IO[bytes]) -> None:
    with tarfile.open(mode="w|", fileobj=stream, format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "Dockerfile", recipe.dockerfile.encode(), 0o644)
        for path, source, mode in recipe.files:
            _add(tar, path, source, mode)


def _add(tar: tarfile.TarFile, name: str, source: bytes | Path, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if isinstance(source, bytes):
        entry.size = len(source)
        tar.addfile(entry, io.BytesIO(source))
        return
    with open(source, "rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        tar.addfile(entry, file)


def _watch(output: IO[bytes], name: str, progress: Progress) -> list[str]:
    """Tells of each step that begins; returns the last lines that were said."""
    last: list[str] = []
    began = time.monotonic()
    for raw in output:
        line = shown(_COLOUR.sub("", raw.decode(errors="replace")).strip())
        if not line:
            continue
        last = [*last, line][-_LAST_LINES:]
        if _STEP.match(line):
            now = time.monotonic()
            progress(f"image {name}: {line[:60]}", (now - began) * 1000)
            began = now
    return last or ["the engine said nothing"]
