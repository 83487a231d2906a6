"""Every kind of git repository: what the agent finds inside is the operator's commit, and its own commit comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, write

pytestmark = pytest.mark.needs("envoy", "claude")

COMMIT = "git add --all && git commit -qm"


@pytest.fixture
def ready(cli: Cli, idle: ScriptedModel) -> Cli:
    cli.manifest(idle.url)
    return cli


def work_in(cli: Cli, folder: Path, *options: str, base: str = "HEAD") -> str:
    """One commit made in a bottle on this repository comes back on top of `base`; returns what git said inside."""
    slug = cli.start(*options, cwd=folder)
    said = (
        cli.inside(
            slug,
            f"git status --porcelain; git log --format=%s -3; echo '# mine' >> adder.py && {COMMIT} Mine",
        )
        .ok()
        .text
    )
    stopped = cli("stop", slug, cwd=folder).ok()
    assert f"refs/bottles/{slug}/heads/bottle/{slug}" in stopped.talk
    ref = f"refs/bottles/{slug}/heads/bottle/{slug}"
    assert cli.git("rev-list", "--count", f"{base}..{ref}", cwd=folder) == "1"
    assert cli.git("show", f"{ref}:adder.py", cwd=folder).endswith("# mine")
    assert cli.git("fsck", "--strict", "--no-dangling", cwd=folder) == ""
    assert cli("diff", slug, cwd=folder).ok().text.endswith("+# mine\n")
    return said


def test_a_detached_head(ready: Cli) -> None:
    folder = ready.repository()
    write(folder / "second.txt", "")
    ready.git("add", ".")
    ready.git("commit", "-qm", "Second")
    ready.git("checkout", "-q", "--detach", "HEAD~1")
    assert work_in(ready, folder) == "Start\n"
    assert ready.git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"


def test_a_shallow_clone(ready: Cli) -> None:
    origin = ready.repository(ready.root / "origin")
    for name in ("b", "c"):
        write(origin / name, "")
        ready.git("add", ".", cwd=origin)
        ready.git("commit", "-qm", name, cwd=origin)
    ready.git("clone", "-q", "--depth", "2", f"file://{origin}", str(ready.project / "shallow"))
    assert work_in(ready, ready.project / "shallow") == "c\nb\n"


def test_a_linked_worktree(ready: Cli) -> None:
    folder = ready.repository()
    linked = ready.root / "linked"
    ready.git("worktree", "add", "-q", "-b", "side", str(linked), cwd=folder)
    assert work_in(ready, linked) == "Start\n"
    for mode in ("overlay", "copy"):
        done = ready("start", ready.agent, "--detach", "--yes", "--workspace", mode, cwd=linked)
        done.failed(2, "worktree", "use clone")


def test_a_repository_that_borrows_its_objects(ready: Cli) -> None:
    origin = ready.repository(ready.root / "origin")
    middle, folder = ready.root / "middle", ready.project / "borrowing"
    ready.git("clone", "-q", "--shared", str(origin), str(middle))
    write(middle / "b", "")
    ready.git("add", ".", cwd=middle)
    ready.git("commit", "-qm", "Middle", cwd=middle)
    ready.git("clone", "-q", "--shared", str(middle), str(folder))
    assert work_in(ready, folder) == "Middle\nStart\n"
    for mode in ("overlay", "copy"):
        done = ready("start", ready.agent, "--detach", "--yes", "--workspace", mode, cwd=folder)
        done.failed(2, "borrows objects", "use clone")


def test_a_repository_of_sha256(ready: Cli) -> None:
    folder = ready.repository(ready.project, "--object-format=sha256")
    assert len(ready.git("rev-parse", "HEAD")) == 64
    assert work_in(ready, folder) == "Start\n"


def test_no_commit_yet_and_the_agents_first_one_comes_back(ready: Cli) -> None:
    ready.git("init", "-q", "-b", "main")
    write(ready.project / "there.txt", "not committed\n")
    slug = ready.start("--carry")
    assert (
        ready.inside(slug, "cat there.txt; git status --porcelain").ok().text
        == "not committed\n?? there.txt\n"
    )
    ready.inside(slug, f"echo first > first.txt; {COMMIT} First").ok()
    ready("stop", slug).ok()
    ref = f"refs/bottles/{slug}/heads/bottle/{slug}"
    assert ready.git("log", "--format=%s", ref) == "First"
    assert ready.git("ls-tree", "--name-only", ref).split() == ["first.txt", "there.txt"]
    assert "+first" in ready("diff", slug).ok().text
    assert ready.git("status", "--porcelain") == "?? there.txt"


def test_no_commit_yet_and_none_made(ready: Cli) -> None:
    ready.git("init", "-q")
    slug = ready.start()
    assert ready.inside(slug, "git status --porcelain; ls -A").ok().text == ".git\n"
    ready("stop", slug).ok()
    assert ready.refs(slug) == {}


def test_a_bare_repository_is_no_workspace(ready: Cli) -> None:
    bare = ready.root / "bare.git"
    ready.git("init", "-q", "--bare", str(bare))
    ready("start", ready.agent, "--detach", "--yes", "--workspace", "clone", cwd=bare).failed(
        2, "needs a git repository"
    )
    shown = ready("start", ready.agent, "--dry-run", cwd=bare).ok()
    assert "the workspace is empty: this folder is no git repository" in shown.talk


def test_submodules_are_said_to_stay_behind(ready: Cli) -> None:
    library = ready.repository(ready.root / "library")
    folder = ready.repository()
    ready.git("submodule", "--quiet", "add", str(library), "lib")
    ready.git("commit", "-qm", "With a submodule")
    assert "submodules are not cloned" in ready("start", ready.agent, "--dry-run").ok().talk
    assert work_in(ready, folder) == "With a submodule\nStart\n"
    assert ready.git("status", "--porcelain") == ""


NAMES = [
    b"x" * 255,
    "ü".encode() * 127,
    b"new\nline",
    b"tab\tbed",
    b"escape\x1b]2;title\x07",
    b"'quotes\"",
    b"-dash",
    b"--",
    b"caf\xe9",
    b" space ",
    b"back\\slash",
    b":(glob)*",
    b"*",
    b"$(touch pwned)",
]


def test_names_of_every_kind_come_in_and_go_out_unchanged(ready: Cli) -> None:
    folder = ready.repository()
    deep = "/".join(["deep-folder-with-a-long-name"] * 12)
    (folder / deep).mkdir(parents=True)
    assert len(deep) > 300
    for name in NAMES:
        for place in (os.fsencode(folder), os.fsencode(folder / deep)):
            with open(os.path.join(place, name), "wb") as file:
                file.write(b"content of " + name)
    ready.git("add", "--all")
    ready.git("commit", "-qm", "Names")
    with open(os.path.join(os.fsencode(folder), b"carried \xff\n"), "wb"):
        pass
    before = ready.git_bytes("ls-files", "-z")
    slug = ready.start("--carry")
    assert ready.inside(slug, "git ls-files -z").out == before
    assert ready.inside(slug, "git status --porcelain -z").out == b"?? carried \xff\n\0"
    ready.inside(slug, f"for f in *; do printf ' and more' >> \"./$f\"; done 2>/dev/null; {COMMIT} More").ok()
    ready("stop", slug).ok()
    ref = f"refs/bottles/{slug}/heads/bottle/{slug}"
    after = ready.git_bytes("ls-tree", "-r", "-z", "--name-only", ref)
    assert sorted(after.split(b"\0")) == sorted([*before.split(b"\0"), b"carried \xff\n"])
    for name in NAMES:
        assert ready.git_bytes("show", ref.encode() + b":" + name) == b"content of " + name + b" and more"
    shown = ready("diff", slug, "--stat").ok()
    assert b"\x1b" not in shown.out


def test_changes_of_every_kind_are_carried_and_stay_uncommitted(ready: Cli) -> None:
    folder = ready.repository()
    for name in ("staged", "unstaged", "both", "deleted", "removed", "to-link", "to-script"):
        write(folder / name, f"{name}\n")
    ready.git("add", ".")
    ready.git("commit", "-qm", "Files")
    write(folder / ".gitignore", "ignored\n__pycache__/\n")
    write(folder / "staged", "staged, new\n")
    write(folder / "both", "staged\n")
    write(folder / "added", "added\n")
    ready.git("add", "staged", "both", "added")
    write(folder / "both", "staged, then not\n")
    write(folder / "unstaged", "unstaged, new\n")
    write(folder / "untracked/file", "untracked\n")
    write(folder / "ignored", "ignored\n")
    ready.git("rm", "-q", "removed")
    (folder / "deleted").unlink()
    (folder / "to-link").unlink()
    (folder / "to-link").symlink_to("staged")
    (folder / "to-script").chmod(0o755)
    before = (
        ready.git("status", "--porcelain"),
        (folder / ".git" / "index").read_bytes(),
        ready.git("count-objects"),
    )

    shown = ready("start", ready.agent, "--dry-run").ok()
    assert "uncommitted changes stay behind: --carry takes them along" in shown.talk
    slug = ready.start("--carry")
    inside = ready.inside(slug, "git status --porcelain --untracked-files=all").ok().text.splitlines()
    assert sorted(inside) == sorted(
        [
            *(f" M {name}" for name in (".gitignore", "staged", "both", "unstaged", "to-script")),
            *(f" D {name}" for name in ("deleted", "removed")),
            " T to-link",
            "?? added",
            "?? untracked/file",
        ]
    )
    assert (
        ready.inside(slug, "cat both untracked/file; readlink to-link; ls ignored").out
        == b"staged, then not\nuntracked\nstaged\n"
    )
    assert ready.inside(slug, "git log --format=%s").text == "Files\nStart\n"
    ready("stop", slug).ok()
    now = (
        ready.git("status", "--porcelain"),
        (folder / ".git" / "index").read_bytes(),
        ready.git("count-objects"),
    )
    assert now[:2] == before[:2]
    changed = ready.git("diff", "--name-only", "HEAD", f"refs/bottles/{slug}/uncommitted").splitlines()
    assert {"added", "deleted", "untracked/file"} <= set(changed)


def test_what_is_left_out_of_a_clone(ready: Cli) -> None:
    """Hooks, filters, config that runs, credentials and other work trees' state stay on the host."""
    folder = ready.repository()
    secret = "https://operator:sesame@example.org/repo.git?token=sesame"
    ready.git("remote", "add", "origin", secret)
    ready.git("config", "credential.helper", "!echo sesame")
    ready.git("config", "http.extraHeader", "Authorization: sesame")
    ready.git("config", "core.fsmonitor", "touch /tmp/sesame")
    ready.git("config", "user.name", "The Operator")
    write(folder / ".git" / "hooks" / "post-checkout", "#!/bin/sh\ntouch sesame\n").chmod(0o755)
    slug = ready.start()
    assert ready.inside(slug, "git config --get remote.origin.url").text == "https://example.org/repo.git\n"
    found = ready.inside(
        slug,
        "git config --list; cat .git/config; ls; grep -rl sesame . /home /tmp 2>/dev/null; ls .git/hooks 2>/dev/null",
    )
    assert "sesame" not in found.text
    ready.inside(slug, f"echo > x; {COMMIT} X").ok()
    assert ready.inside(slug, "git log -1 --format=%an").text == "The Operator\n"
