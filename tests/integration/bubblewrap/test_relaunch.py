"""A bottle is started again on what an agent left behind: links planted for the host lead nowhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap.host import SYMLINKS_FIXED, parse_version
from claude_bottle.errors import BottleError
from claude_bottle.operations.launch import Launched, revive
from claude_bottle.operations.prepare import prepare_again
from claude_bottle.state import store
from tests.support.bottles import World, no_progress, nobody_asks, shell_inside

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the host that nothing of a bottle may change."""
    folder = tmp_path / "victim"
    (folder / "inner").mkdir(parents=True)
    (folder / "precious").write_text("unchanged")
    (folder / "precious").chmod(0o600)
    return folder


def fingerprint(folder: Path) -> str:
    """Names, kinds, owners, modes, sizes and contents."""
    seen = hashlib.sha256()
    for path in (folder, *sorted(folder.rglob("*"))):
        found = path.lstat()
        seen.update(repr((str(path), found.st_mode, found.st_uid, found.st_gid, found.st_nlink)).encode())
        if path.is_file():
            seen.update(path.read_bytes())
    return seen.hexdigest()


def again(world: World, launched: Launched) -> Launched:
    return revive(world.context, prepare_again(world.context, launched.metadata), no_progress, nobody_asks)


def hidden_from_root(path: Path) -> str:
    """How a bubblewrap before 0.12 finds a folder of the host, from inside the root that it is building."""
    return f"../../../../oldroot{path}"


PLANTED_INSIDE = """
cd ~
ln -s {target} link
ln -s {target} .claude/projects
rm -rf .gitconfig && ln -s {target}/precious .gitconfig
mv .claude/settings.json .claude/gone && ln -s {target}/precious .claude/settings.json
cd ~/workspace
ln -s {target} linked && ln -s {target}/precious file
mv .git .git-before && ln -s {target} .git
cd /tmp
ln -s {target} somewhere
ln {target}/precious hard 2>/dev/null
true
"""


@pytest.mark.parametrize("how", [str, hidden_from_root], ids=["absolute", "through-the-old-root"])
def test_links_planted_by_an_agent_lead_nowhere(
    world: World, victim: Path, how: Callable[[Path], str]
) -> None:
    before = fingerprint(victim)
    launched = world.launch()
    assert shell_inside(launched.bottle, PLANTED_INSIDE.format(target=how(victim))).status == 0
    launched.bottle.stop()
    second = again(world, launched)
    try:
        assert second.bottle.exec(["readlink", "linked"]).text.strip() == how(victim)
        assert shell_inside(second.bottle, "ls ~/link/ ~/workspace/linked/ /tmp/somewhere/").status != 0
    finally:
        second.bottle.stop()
    store.remove(launched.paths)
    assert fingerprint(victim) == before


PLACES = ["home/workspace", "home", "workspace", "tmp"]


@pytest.mark.parametrize("how", [str, hidden_from_root], ids=["absolute", "through-the-old-root"])
@pytest.mark.parametrize("place", PLACES)
def test_a_mount_point_that_became_a_link_writes_nothing_on_the_host(
    world: World, victim: Path, place: str, how: Callable[[Path], str]
) -> None:
    """More than an agent can do: the mount point itself, or what is mounted, is a link to the host."""
    launched = world.launch()
    launched.bottle.stop()
    before = fingerprint(victim)
    target = launched.paths.root / place
    if not target.is_symlink():
        shutil.rmtree(target)
    target.symlink_to(how(victim))
    try:
        second = again(world, launched)
    except (BottleError, OSError):
        assert fingerprint(victim) == before
        return
    try:
        shell_inside(second.bottle, "echo changed > ~/precious; echo changed > ~/workspace/precious")
        shell_inside(
            second.bottle, "echo changed > /tmp/precious; rm -rf ~/inner ~/workspace/inner /tmp/inner"
        )
    finally:
        second.bottle.stop()
    assert fingerprint(victim) == before


def test_a_mount_point_that_became_a_file_is_a_folder_again(world: World) -> None:
    launched = world.launch()
    launched.bottle.stop()
    point = launched.paths.home / "workspace"
    point.rmdir()
    point.write_text("not a folder")
    second = again(world, launched)
    try:
        assert second.bottle.exec(["cat", "README"]).text == "a small repository\n"
    finally:
        second.bottle.stop()


def test_a_tree_without_end_does_not_stop_the_next_start(world: World) -> None:
    """Deeper than Python's stack, and with a path that is too long for any call."""
    launched = world.launch()
    deep = "import os\nfor _ in range(3000):\n    os.mkdir('dd')\n    os.chdir('dd')"
    for folder in ("/tmp", "/home/node", "/home/node/workspace", "/home/node/.claude"):
        assert launched.bottle.exec(["/usr/bin/python3", "-c", deep], directory=folder).status == 0
    launched.bottle.stop()
    second = again(world, launched)
    second.bottle.stop()
    store.remove(launched.paths)
    assert not launched.paths.root.exists()


def test_what_was_written_is_there_again_and_belongs_to_the_bottles_user(world: World) -> None:
    launched = world.launch()
    shell_inside(launched.bottle, "echo kept > ~/kept; echo kept > kept; mkdir -m 0 ~/closed; chmod 0 kept")
    launched.bottle.stop()
    second = again(world, launched)
    try:
        assert shell_inside(second.bottle, "cat ~/kept").text == "kept\n"
        assert shell_inside(second.bottle, "chmod 600 kept && cat kept").text == "kept\n"
        assert shell_inside(second.bottle, "chmod 700 ~/closed && stat -c %U ~/closed").text == "node\n"
    finally:
        second.bottle.stop()


def test_the_hole_itself_on_this_version_of_bubblewrap(tmp_path: Path, victim: Path) -> None:
    """CVE-2026-87766, bare: a link in a writable folder, and a mount point behind it.

    It shows that what the tests above plant would work without the checks.
    """
    writable = tmp_path / "writable"
    writable.mkdir()
    (writable / "link").symlink_to(f"../../oldroot{victim}")
    links = ("lib", "lib64", "bin")
    command = ["bwrap", "--unshare-user", "--ro-bind", "/usr", "/usr"]
    for name in links:
        if os.path.islink(f"/{name}"):
            command += ["--symlink", f"usr/{name}", f"/{name}"]
    command += ["--bind", str(writable), "/work", "--dir", "/work/link/made", "true"]
    subprocess.run(command, capture_output=True, check=False)
    reached_the_host = (victim / "made").exists()
    said = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=True).stdout
    version = parse_version(said)
    assert not (reached_the_host and version >= SYMLINKS_FIXED)
    if version < (0, 9, 0):
        assert reached_the_host, "the tests above would prove nothing here"
