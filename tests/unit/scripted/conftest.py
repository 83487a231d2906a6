"""What the tests of the scripted model share: a request builder, and the real Claude Code."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

UNPRIVILEGED = 1500  # Claude Code refuses --dangerously-skip-permissions as root
PATH = "/usr/local/bin:/usr/bin:/bin"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def assistant(*blocks: Mapping[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def result(tool_use_id: str, content: object, is_error: bool = False) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": content, "is_error": is_error}
    return {"role": "user", "content": [block]}


def request(*messages: Mapping[str, Any], tools: Sequence[str] = ("Bash",), **more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": list(messages), "tools": [{"name": name} for name in tools]}
    return {**body, **more}


@dataclass(frozen=True, slots=True)
class RealClaude:
    """The real Claude Code in a home of its own, as an ordinary user."""

    binary: str
    home: Path
    uid: int | None  # the user to become, or None to stay what we are

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    def run(self, argv: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.workspace,
            env={"HOME": str(self.home), "PATH": PATH, "GIT_CONFIG_NOSYSTEM": "1", **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )

    def print_mode(self, url: str, prompt: str, *flags: str) -> subprocess.CompletedProcess[str]:
        env = {
            "CLAUDE_CONFIG_DIR": str(self.home / "config"),
            "CLAUDE_CODE_TMPDIR": str(self.home),
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "placeholder",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            "DISABLE_AUTOUPDATER": "1",
        }
        return self.run([self.binary, "-p", prompt, "--dangerously-skip-permissions", *flags], env)

    def give(self) -> None:
        """Let the user own what the test has written."""
        if self.uid is not None:
            for path in (self.home, *self.home.rglob("*")):
                if path != Path(self.binary):  # it is the tester's own, under another name
                    os.chown(path, self.uid, self.uid)


@pytest.fixture
def real_claude(claude_binary: Path) -> Iterator[RealClaude]:
    uid = UNPRIVILEGED if os.geteuid() == 0 else None
    # Nobody but us may enter pytest's tmp_path, and root's own folders hold no program for others.
    with tempfile.TemporaryDirectory(prefix="scripted-") as home:
        # A second name for the program, as the first may lie in a folder of root's that others cannot search.
        binary = Path(home) / "claude"
        try:
            binary.hardlink_to(claude_binary)
        except OSError:
            shutil.copyfile(claude_binary, binary)
        binary.chmod(0o755)
        claude = RealClaude(str(binary), Path(home), uid)
        claude.workspace.mkdir()
        claude.give()
        yield claude
