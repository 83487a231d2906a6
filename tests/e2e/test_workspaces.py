"""What the agent sees as its workspace in each mode, what is written where, and what comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, write

pytestmark = pytest.mark.needs("envoy", "claude")

COMMIT = "git add --all && git commit -qm"
SECRETS = (".env", "config/.env.local", "keys/server.pem", ".npmrc", "credentials.json")
ODD_FOLDERS = [
    "with space",
    "quote's",
    'double"quote',
    "ümläut",
    "comma,comma",
    "colon:colon",
    "back\\slash",
    "a=b,c",
    "$HOME",
    "-dash",
]


def needs_identity(cli: Cli, mode: str) -> None:
    """The host's files shown inside as the bottle user's own."""
    if cli.backend == "docker" and mode in ("overlay", "bind"):
        pytest.skip("a container shows files with their owner's number, and here that is root")


@pytest.fixture
def ready(cli: Cli, idle: ScriptedModel) -> Cli:
    cli.manifest(idle.url)
    return cli


@pytest.fixture
def tree(ready: Cli) -> Cli:
    """A repository with a build cache, ignored secrets, and credentials in git's own configuration."""
    folder = ready.repository()
    write(folder / ".gitignore", "__pycache__/\nbuild/\n.env*\nkeys/\n.npmrc\ncredentials.json\nconfig/\n")
    write(folder / ".env.example", "EXAMPLE=1\n")
    ready.git("add", "-f", ".")
    ready.git("commit", "-qm", "Ignore")
    write(folder / "build" / "cache.o", "cached\n")
    for name in SECRETS:
        write(folder / name, "sesame\n")
    ready.git("remote", "add", "origin", "https://operator:sesame@example.org/repo.git")
    ready.git("config", "branch.main.remote", "https://operator:sesame@example.org/repo.git")
    ready.git("config", "remote.origin.proxy", "http://operator:sesame@proxy.example.org")
    ready.git("config", "http.extraHeader", "Authorization: sesame")
    ready.git("config", "credential.helper", "!echo sesame")
    return ready


SEE_SECRETS = "grep -rIl sesame . 2>/dev/null; git config --list 2>/dev/null | grep sesame; true"


def test_a_clone_has_what_is_committed_and_nothing_else(tree: Cli) -> None:
    slug = tree.start("--workspace", "clone")
    assert tree.inside(slug, "ls -A").text.split() == [
        ".env.example",
        ".git",
        ".gitignore",
        "adder.py",
        "test_adder.py",
    ]
    assert tree.inside(slug, SEE_SECRETS).out == b""
    assert (
        tree.inside(slug, "git log --format=%s; git branch --show-current").text
        == f"Ignore\nStart\nbottle/{slug}\n"
    )
    objects = "find /opt/claude-bottle/objects/0 -type f | head -1"
    assert tree.inside(slug, f'test -w "$({objects})"').status == 1
    assert tree.inside(slug, "touch /opt/claude-bottle/objects/0/x").status == 1


@pytest.mark.backends("bubblewrap")
def test_an_overlay_has_all_but_secrets_and_the_hosts_tree_stays(tree: Cli) -> None:
    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tree.project.rglob("*") if path.is_file()}

    before = contents()
    shown = tree("start", tree.agent, "--dry-run", "--workspace", "overlay").ok()
    assert "5 ignored files that look secret are hidden" in shown.talk
    slug = tree.start("--workspace", "overlay")
    assert tree.inside(slug, "cat build/cache.o .env.example").text == "cached\nEXAMPLE=1\n"
    assert tree.inside(slug, SEE_SECRETS).out == b""
    for name in SECRETS:
        assert tree.inside(slug, f"ls {name}").status == 2
    script = f"""
        echo '# mine' >> adder.py; echo new > build/new.o; rm test_adder.py; echo mine > .env
        git config user.nickname mine; git branch mine; {COMMIT} Mine; echo '# open' >> adder.py
    """
    tree.inside(slug, script).ok()
    assert contents() == before
    assert tree.inside(slug, "cat .env").text == "mine\n"
    tree("stop", slug).ok()
    ref = f"refs/bottles/{slug}/heads/bottle/{slug}"
    assert tree.git("log", "-1", "--format=%s", ref) == "Mine"
    assert tree.git("ls-tree", "--name-only", ref).split() == [".env.example", ".gitignore", "adder.py"]
    assert tree.git("show", f"refs/bottles/{slug}/uncommitted:adder.py").endswith("# mine\n# open")
    after = contents()
    assert {name: content for name, content in after.items() if "/.git/" not in name} == {
        name: content for name, content in before.items() if "/.git/" not in name
    }
    assert tree.git("status", "--porcelain") == ""


@pytest.mark.backends("bubblewrap")
def test_an_overlay_hides_the_credentials_of_submodules_and_work_trees_too(tree: Cli) -> None:
    library = tree.repository(tree.root / "library")
    tree.git("submodule", "--quiet", "add", str(library), "lib")
    tree.git("commit", "-qm", "With a submodule")
    tree.git(
        "config", "remote.origin.url", "https://operator:sesame@example.org/lib.git", cwd=tree.project / "lib"
    )
    write(tree.project / "lib" / ".gitignore", ".env\n")
    tree.git("add", ".", cwd=tree.project / "lib")
    tree.git("commit", "-qm", "Ignore", cwd=tree.project / "lib")
    write(tree.project / "lib" / ".env", "sesame\n")
    tree.git("config", "extensions.worktreeConfig", "true")
    tree.git("config", "--worktree", "remote.second.url", "https://operator:sesame@example.org/second.git")
    slug = tree.start("--workspace", "overlay")
    assert tree.inside(slug, SEE_SECRETS).out == b""
    assert (
        tree.inside(slug, "cat lib/adder.py; git -C lib status --porcelain").ok().text.startswith("def add")
    )


@pytest.mark.backends("bubblewrap")
def test_an_overlay_works_for_an_ordinary_user_too(anyone: Cli, idle: ScriptedModel) -> None:
    cli = anyone
    cli.manifest(idle.url)
    cli.repository()
    write(cli.project / ".gitignore", ".env\n")
    write(cli.project / ".env", "sesame\n")
    cli.give()
    slug = cli.start("--workspace", "overlay")
    assert cli.inside(slug, "cat .env").status == 1
    cli.inside(slug, f"rm .gitignore; echo '# mine' >> adder.py; {COMMIT} Mine").ok()
    cli("stop", slug).ok()
    assert cli.git("show", f"refs/bottles/{slug}/heads/bottle/{slug}:adder.py").endswith("# mine")
    assert "# mine" not in (cli.project / "adder.py").read_text()


def test_a_copy_is_a_copy(tree: Cli) -> None:
    slug = tree.start("--workspace", "copy")
    assert tree.inside(slug, "cat build/cache.o .env; git status --porcelain").text == "cached\nsesame\n"
    tree.inside(slug, f"echo '# mine' >> adder.py; rm -r build; {COMMIT} Mine").ok()
    tree("stop", slug).ok()
    assert tree.git("log", "-1", "--format=%s", f"refs/bottles/{slug}/heads/bottle/{slug}") == "Mine"
    assert (tree.project / "build" / "cache.o").exists()
    assert "# mine" not in (tree.project / "adder.py").read_text()


@pytest.mark.backends("bubblewrap")
def test_bind_is_the_hosts_own_folder_and_its_owner_stays(anyone: Cli, idle: ScriptedModel) -> None:
    cli = anyone
    cli.manifest(idle.url)
    folder = cli.repository()
    shown = cli("start", cli.agent, "--dry-run", "--workspace", "bind").ok()
    assert "what it writes is on the host at once" in shown.talk
    slug = cli.start("--workspace", "bind")
    cli.inside(slug, f"echo '# mine' >> adder.py; mkdir new; echo x > new/file; {COMMIT} Mine").ok()
    assert (folder / "adder.py").read_text().endswith("# mine\n")
    owner = folder.stat()
    for path in (folder / "new", folder / "new" / "file", folder / ".git" / "HEAD"):
        assert (path.stat().st_uid, path.stat().st_gid) == (owner.st_uid, owner.st_gid)
    assert cli.git("log", "-1", "--format=%s") == "Mine"
    cli("pull", slug).failed(2, "has no git branch of its own")
    cli("stop", slug).ok()


def test_none_is_empty(tree: Cli) -> None:
    slug = tree.start("--workspace", "none")
    assert tree.inside(slug, "ls -A; pwd").text == "/home/node/workspace\n"
    tree.inside(slug, "echo x > x").ok()
    tree("stop", slug).ok()
    tree("pull", slug).failed(2, "has no git branch of its own")


@pytest.mark.parametrize("mode", ["", "none", "copy", "overlay", "bind"])
def test_a_folder_that_is_no_repository(ready: Cli, mode: str) -> None:
    needs_identity(ready, mode)
    folder = ready.root / "plain"
    write(folder / "file.txt", "content\n")
    write(folder / ".env", "sesame\n")
    slug = ready.start(*(["--workspace", mode] if mode else []), cwd=folder)
    seen = ready.inside(slug, "ls -A; git status 2>&1 | head -1").text.split("\n")
    expected = {
        "": [],
        "none": [],
        "copy": [".env", "file.txt"],
        "overlay": ["file.txt"],
        "bind": [".env", "file.txt"],
    }
    assert seen[:-2] == expected[mode]
    assert "not a git repository" in seen[-2]
    ready.inside(slug, "echo more > more.txt").ok()
    assert (folder / "more.txt").exists() == (mode == "bind")
    ready("stop", slug, cwd=folder).ok()
    ready("pull", slug, cwd=folder).failed(2, "has no git branch of its own")
    ready("start", ready.agent, "--detach", "--yes", "--workspace", "clone", cwd=folder).failed(
        2, "git repository", "git init"
    )


@pytest.mark.parametrize("mode", ["clone", "overlay", "copy"])
def test_a_folder_below_the_top_gives_the_whole_repository(ready: Cli, mode: str) -> None:
    needs_identity(ready, mode)
    folder = ready.repository()
    write(folder / "below" / "deep" / "file", "x\n")
    ready.git("add", ".")
    ready.git("commit", "-qm", "Below")
    slug = ready.start("--workspace", mode, cwd=folder / "below" / "deep")
    assert ready.inside(slug, "ls").text.split() == ["adder.py", "below", "test_adder.py"]
    other = ready.start("--workspace", mode, "--folder", str(folder / "below"), cwd=ready.root)
    assert ready.inside(other, "ls").text.split() == ["adder.py", "below", "test_adder.py"]


@pytest.mark.parametrize("mode", ["clone", "overlay", "copy", "bind"])
def test_a_path_of_odd_characters_works_in_every_mode(ready: Cli, mode: str) -> None:
    """All of them in one path, so that one start tells."""
    needs_identity(ready, mode)
    folder = ready.repository(ready.root.joinpath(*ODD_FOLDERS))
    write(folder / "uncommitted", "x\n")
    carry = ["--carry"] if mode == "clone" else []
    slug = ready.start("--workspace", mode, *carry, cwd=folder)
    assert ready.inside(slug, "git status --porcelain; cat adder.py").text.startswith(
        "?? uncommitted\ndef add"
    )
    ready.inside(slug, f"echo '# mine' >> adder.py; {COMMIT} Mine").ok()
    ready("stop", slug, cwd=folder).ok()
    ref = "HEAD" if mode == "bind" else f"refs/bottles/{slug}/heads/bottle/{slug}"
    assert ready.git("log", "-1", "--format=%s", ref, cwd=folder) == "Mine"


@pytest.mark.parametrize("name", [b"new\nline", b"caf\xe9", b"form\x0cfeed"], ids=ascii)
@pytest.mark.parametrize("mode", ["clone", "overlay", "copy", "bind", "none"])
def test_a_path_that_is_hardly_one_works_or_is_refused(ready: Cli, mode: str, name: bytes) -> None:
    needs_identity(ready, mode)
    folder = ready.repository(Path(os.fsdecode(os.path.join(os.fsencode(ready.root), name))))
    done = ready("start", ready.agent, "--detach", "--yes", "--workspace", mode, cwd=folder)
    if done.status != 0:
        done.failed(2, "a folder whose path has a line break")
        assert ready.preserved() == []
        return
    slug = done.text.strip()
    if mode != "none":
        ready.inside(slug, f"grep -q add adder.py && echo '# mine' >> adder.py && {COMMIT} Mine").ok()
    ready("stop", slug, cwd=folder).ok()
    if mode not in ("none", "bind"):
        ref = f"refs/bottles/{slug}/heads/bottle/{slug}"
        assert ready.git("log", "-1", "--format=%s", ref, cwd=folder) == "Mine"


def test_a_home_with_odd_characters_works(ready: Cli) -> None:
    """The state folder's own path, which stands in mounts, logs and sockets."""
    ready.repository()
    odd = ready.root / "state of, the: 'art' \"ü\"" / ("long" * 30)
    odd.parent.mkdir()
    ready.home.rename(odd)
    ready.more["CLAUDE_BOTTLE_HOME"] = str(odd)
    modes = ("clone", "overlay") if ready.backend == "bubblewrap" else ("clone", "copy")
    for mode in modes:
        done = ready("start", ready.agent, "--detach", "--yes", "--workspace", mode).ok()
        slug = done.text.strip()
        ready.inside(slug, f"echo '# mine' >> adder.py; {COMMIT} Mine").ok()
        ready("stop", slug).ok()
        assert set(ready.refs(slug)) == {f"heads/bottle/{slug}"}


def test_a_link_to_a_folder_is_that_folder(ready: Cli) -> None:
    folder = ready.repository()
    link = ready.root / "link"
    link.symlink_to(folder)
    slug = ready.start("--folder", str(link), cwd=ready.root)
    ready.inside(slug, f"echo '# mine' >> adder.py; {COMMIT} Mine").ok()
    ready("stop", slug).ok()
    assert set(ready.refs(slug)) == {f"heads/bottle/{slug}"}


@pytest.mark.backends("bubblewrap")
def test_a_path_that_is_no_text_can_be_bound_by_anyone(anyone: Cli, idle: ScriptedModel) -> None:
    anyone.manifest(idle.url)
    folder = anyone.repository(Path(os.fsdecode(os.path.join(os.fsencode(anyone.root), b"caf\xe9"))))
    slug = anyone.start("--workspace", "bind", cwd=folder)
    anyone.inside(slug, "echo '# mine' >> adder.py").ok()
    assert (folder / "adder.py").read_text().endswith("# mine\n")
