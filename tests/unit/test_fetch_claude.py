"""script/fetch_claude.py against an npm that hands out what a test wrote: only the pinned bytes get in."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "fetch_claude.py"
PROGRAM = b"#!/bin/sh\necho '9.9.9 (Claude Code)'\n"


@pytest.fixture(scope="module")
def fetch_claude() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_claude", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch_claude"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def archive(program: bytes, member: str = "package/claude") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(program)
        tar.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


def integrity(data: bytes) -> str:
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm on the PATH whose `pack` hands out the file `served`, and writes down what it was asked."""
    served, folder = tmp_path / "served", tmp_path / "bin"
    folder.mkdir()
    script = folder / "npm"
    script.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\ncp {served} ./claude.tgz\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return served


def install(fetch_claude: ModuleType, tools: Path, pinned: str, version: str = "9.9.9") -> Path:
    path = fetch_claude.install(
        fetch_claude.Pin(version, "@anthropic-ai/claude-code-linux-x64", pinned), tools
    )
    assert isinstance(path, Path)
    return path


def left_behind(tools: Path) -> list[Path]:
    return list((tools / "claude-code").iterdir())


def test_the_pinned_bytes_are_installed_and_nothing_else(
    fetch_claude: ModuleType, npm: Path, tmp_path: Path
) -> None:
    npm.write_bytes(archive(PROGRAM))
    path = install(fetch_claude, tmp_path / "tools", integrity(npm.read_bytes()))
    assert path == tmp_path / "tools/claude-code/9.9.9/claude"
    assert path.read_bytes() == PROGRAM
    assert path.stat().st_mode & 0o777 == 0o755
    assert left_behind(tmp_path / "tools") == [path.parent]
    asked = (tmp_path / "asked").read_text(encoding="utf-8").split()
    assert asked == ["pack", "--ignore-scripts", "@anthropic-ai/claude-code-linux-x64@9.9.9"]


def test_other_bytes_are_refused(fetch_claude: ModuleType, npm: Path, tmp_path: Path) -> None:
    npm.write_bytes(archive(PROGRAM + b"# and more\n"))
    with pytest.raises(fetch_claude.FetchError, match="sha512 differs"):
        install(fetch_claude, tmp_path / "tools", integrity(archive(PROGRAM)))
    assert left_behind(tmp_path / "tools") == []


def test_an_archive_without_the_program_is_refused(
    fetch_claude: ModuleType, npm: Path, tmp_path: Path
) -> None:
    npm.write_bytes(archive(PROGRAM, member="package/other"))
    with pytest.raises(fetch_claude.FetchError, match="holds no file"):
        install(fetch_claude, tmp_path / "tools", integrity(npm.read_bytes()))
    assert left_behind(tmp_path / "tools") == []


def test_a_program_of_another_version_is_refused(fetch_claude: ModuleType, npm: Path, tmp_path: Path) -> None:
    npm.write_bytes(archive(PROGRAM))
    with pytest.raises(fetch_claude.FetchError, match="calls itself"):
        install(fetch_claude, tmp_path / "tools", integrity(npm.read_bytes()), version="9.9")
    assert left_behind(tmp_path / "tools") == []


def test_an_npm_that_fails_is_quoted(fetch_claude: ModuleType, npm: Path, tmp_path: Path) -> None:
    with pytest.raises(fetch_claude.FetchError, match="ended with 1"):
        install(fetch_claude, tmp_path / "tools", integrity(b""))
    assert left_behind(tmp_path / "tools") == []


def test_the_lock_in_the_tree_pins_one_version_for_every_platform(fetch_claude: ModuleType) -> None:
    lock = SCRIPT.parents[1] / "locks" / "claude-code.lock"
    pins = fetch_claude.read_pins(lock.read_text(encoding="utf-8"))
    assert len({pin.version for pin in pins}) == 1
    for machine in ("x86_64", "aarch64"):
        for glibc in (True, False):
            suffix = fetch_claude.platform_suffix(machine, glibc=glibc)
            assert fetch_claude.choose_pin(pins, suffix).package.endswith(suffix)


def test_a_processor_without_a_build_is_named(fetch_claude: ModuleType) -> None:
    with pytest.raises(fetch_claude.FetchError, match="riscv64"):
        fetch_claude.platform_suffix("riscv64", glibc=True)


@pytest.mark.parametrize("text", ["", "# nothing\n", "1.2.3 package\n", "1.2.3 package md5-abc\n"])
def test_a_broken_lock_is_refused(fetch_claude: ModuleType, text: str) -> None:
    with pytest.raises(fetch_claude.FetchError, match="broken"):
        fetch_claude.read_pins(text)
