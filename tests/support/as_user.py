"""Runs tests once more as an ordinary user, from a process of root's.

The user has no account, no groups and no home but a new folder. What he cannot read or run he cannot test with:
then it says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from claude_bottle.sidecars.egress.envoy import find_envoy

ROOT = Path(__file__).parents[2]
UID = 12345
NEEDED = """
import os, pytest, yaml, cryptography.x509, hypothesis, sys
if not os.access(sys._base_executable, os.X_OK):
    sys.exit(f"{sys._base_executable} is closed to this user")
print(sys.version_info[:2])
"""


class CannotBe(Exception):
    """Why tests cannot be run as another user here."""


@dataclass(frozen=True)
class OrdinaryUser:
    """How commands are run as that user."""

    home: Path
    interpreter: str
    packages: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "PYTHONPATH": self.packages,
            **{name: os.environ[name] for name in ("CLAUDE_BOTTLE_CLAUDE",) if name in os.environ},
            "CLAUDE_BOTTLE_ENVOY": str(find_envoy()),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
        }

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        identity = ["--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--no-new-privs"]
        command = ["setpriv", *identity, *argv]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["-q", "-p", "no:cacheprovider", "--basetemp", str(self.home / "tests")]
        return self.run(self.interpreter, "-m", "pytest", *options, *arguments)


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Raises CannotBe."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise CannotBe("only root can become another user, by setpriv")
    home = Path(tempfile.mkdtemp(prefix="ordinary-user-"))
    try:
        os.chown(home, UID, UID)
        yield _first_that_works(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _first_that_works(home: Path) -> OrdinaryUser:
    """This interpreter, or the system's with this one's packages, where both are of one version."""
    packages = sysconfig.get_path("purelib")
    reasons = []
    for interpreter in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        user = OrdinaryUser(home, interpreter, packages)
        done = user.run(interpreter, "-c", NEEDED)
        if done.returncode == 0 and done.stdout.strip() == str(sys.version_info[:2]):
            return user
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        reasons.append(f"{interpreter}: {' '.join(said) or 'another version'}")
    raise CannotBe("; ".join(reasons))
