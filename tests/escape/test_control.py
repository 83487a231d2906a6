"""The operator's way to the sidecars is not the agent's, nor Envoy's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from claude_bottle.operations.launch import Launched
from claude_bottle.state.identity import identity
from claude_bottle.state.paths import Home
from tests.escape.conftest import Attack
from tests.support.bottles import only_with

KNOCK = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(10)
try:
    sock.connect(sys.argv[1].replace("@", "\\0", 1))
    sock.sendall(b'{"op": "authority"}\\n')
    print("said", sock.recv(65536))
except OSError as error:
    print(type(error).__name__)
"""


def abstract(cell: Launched) -> str:
    """Where a bundle in a container listens."""
    home = Home(cell.paths.root.parent.parent)
    return f"@claude-bottle-{identity(home.root)}-{cell.metadata.slug}"


def test_nothing_inside_reaches_the_control_socket(cell: Launched, attack: Attack) -> None:
    here = str(cell.paths.run / "control")
    found = attack(
        """
        named = []
        for folder, folders, files in os.walk("/"):
            folders[:] = [item for item in folders if os.path.join(folder, item) not in ("/proc", "/sys")]
            named += [os.path.join(folder, item) for item in files if item == "control"]
        def knock(address):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(address.replace("@", "\\0", 1))
        def there(path):
            import stat
            try:
                return stat.S_ISSOCK(os.lstat(path).st_mode)
            except OSError:
                return False
        with open("/proc/net/unix") as file:
            shown = [line.split()[-1] for line in file if "claude-bottle" in line]
        report(
            sockets=[path for path in named if there(path)],
            knocked=[tried(knock, address) for address in sys.argv[1:]],
            shown=shown,
        )
        """,
        here,
        abstract(cell),
        "/run/egress/../control",
        "../control",
    )
    assert found["sockets"] == []
    assert set(found["knocked"]) <= {"ENOENT", "ECONNREFUSED", "EACCES", "ENOTDIR", "EPERM"}
    assert found["shown"] == []


def test_beside_the_bundle_only_root_is_answered(cell: Launched) -> None:
    """Envoy is the bundle's user, in the bundle's container."""
    only_with("docker", cell, "the others show Envoy no socket but its own")
    container = f"claude-bottle-sidecars-{cell.metadata.slug}"

    def knocked(*user: str) -> str:
        argv = ["docker", "exec", *user, container, "/usr/bin/python3", "-c", KNOCK, abstract(cell)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    turned_away = {"said b''", "BrokenPipeError", "ConnectionResetError"}
    assert knocked() in turned_away
    assert knocked("--user", "1234:0") in turned_away
    assert "PRIVATE KEY" in knocked("--user", "0:0")


def test_envoy_is_shown_nothing_of_the_run_directory_but_its_own(cell: Launched) -> None:
    only_with("bubblewrap", cell, "in a container it shares the bundle's files")
    envoys = [
        pid
        for pid in Path("/proc").iterdir()
        if pid.name.isdecimal() and _is_envoy_of(pid, cell.paths.run / "egress")
    ]
    assert envoys
    for pid in envoys:
        assert not (pid / "root" / "run" / "control").exists()
        assert not (pid / "cwd" / ".." / "control").exists()


def _is_envoy_of(pid: Path, folder: Path) -> bool:
    try:
        argv = (pid / "cmdline").read_bytes().split(b"\0")
        return argv[0].endswith(b"/envoy") and (pid / "cwd").samefile(folder)
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _answers(cell: Launched) -> None:
    """Else no attack proves anything."""
    assert cell.bottle.control({"op": "look"})["ok"]
