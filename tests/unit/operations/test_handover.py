"""Bringing work back: the script that runs inside, and the host's git that trusts nothing of it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.operations import handover
from claude_bottle.operations.handover import Captured, Work, capture, captured, difference, forget, take
from claude_bottle.proc import Result
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import BottlePaths
from tests.support.repositories import ENVIRONMENT, RUNNER, Repo, make_repo

SLUG = "reviewer-00000"
BRANCH = f"bottle/{SLUG}"
BELOW = f"refs/bottles/{SLUG}"


class Inside:
    """Stands for a bottle whose workspace is a folder of the test: programs run there."""

    slug = SLUG

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def exec(self, argv: list[str], *, timeout: float, limit: int) -> Result:
        done = subprocess.run(argv, cwd=self.folder, env=ENVIRONMENT, capture_output=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = make_repo(tmp_path / "repo")
    repo.commit("file", "first\n", "Start")
    return repo


@pytest.fixture
def work(repo: Repo, tmp_path: Path) -> Repo:
    """The agent's clone, on a branch of its own."""
    repo.git("clone", "-q", "--no-hardlinks", str(repo.path), str(tmp_path / "work"))
    work = Repo(tmp_path / "work")
    work.git("checkout", "-q", "-b", BRANCH)
    work.git("branch", "-q", "-D", "main")
    return work


@pytest.fixture
def paths(tmp_path: Path) -> BottlePaths:
    root = tmp_path / "state" / SLUG
    root.mkdir(parents=True)
    return BottlePaths(root)


@pytest.fixture
def metadata(repo: Repo) -> Metadata:
    base = repo.git("rev-parse", "HEAD")
    return Metadata(SLUG, "reviewer", "plain", "bubblewrap", 1.0, "clone", str(repo.path), "0", BRANCH, base)


Hand = Callable[[], Work]


@pytest.fixture
def hand_over(work: Repo, metadata: Metadata, paths: BottlePaths) -> Hand:
    def run() -> Work:
        return take(RUNNER, capture(cast(Bottle, Inside(work.path)), metadata, paths), metadata)

    return run


def refs(repo: Repo) -> dict[str, str]:
    lines = repo.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return {name: commit for name, _, commit in (line.partition(" ") for line in lines)}


def test_nothing_was_done(hand_over: Hand, repo: Repo, paths: BottlePaths) -> None:
    before = refs(repo)
    assert hand_over() == Work(())
    assert refs(repo) == before
    assert captured(paths) is None


def test_commits_come_back_below_the_bottles_own_refs(hand_over: Hand, repo: Repo, work: Repo) -> None:
    before = refs(repo)
    commit = work.commit("file", "second\n")
    assert hand_over() == Work(((f"{BELOW}/heads/{BRANCH}", commit),))
    assert refs(repo) == before | {f"{BELOW}/heads/{BRANCH}": commit}
    assert repo.git("status", "--porcelain") == ""
    assert repo.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_every_branch_comes_back_the_bottles_own_first(hand_over: Hand, repo: Repo, work: Repo) -> None:
    work.commit("a")
    work.git("checkout", "-q", "-b", "another")
    work.commit("b")
    assert [ref for ref, _ in hand_over().refs] == [f"{BELOW}/heads/{BRANCH}", f"{BELOW}/heads/another"]


def test_what_is_not_committed_comes_back_as_a_commit(
    hand_over: Hand, repo: Repo, work: Repo, metadata: Metadata
) -> None:
    work.write("file", "changed\n")
    work.write("new name", "new\n")
    work.write("line\nbreak", "odd\n")
    (work.path / ".gitignore").write_text("ignored\n")
    work.write("ignored")
    found = hand_over()
    assert found.tip == f"{BELOW}/uncommitted"
    listed = repo.git("ls-tree", "-z", "--name-only", found.tip).split("\0")
    assert {"file", "new name", "line\nbreak", ".gitignore"} <= set(listed)
    assert "ignored" not in listed
    assert repo.git("rev-parse", f"{found.tip}^") == metadata.base
    assert (work.path / "file").read_text() == "changed\n"


def test_the_agents_index_and_files_are_as_before(hand_over: Hand, work: Repo) -> None:
    work.write("staged", "x")
    work.git("add", "staged")
    work.write("staged", "y")
    before = work.git("status", "--porcelain=v2")
    hand_over()
    assert work.git("status", "--porcelain=v2") == before


def test_a_detached_head_comes_back(hand_over: Hand, repo: Repo, work: Repo) -> None:
    work.git("checkout", "-q", "--detach")
    commit = work.commit("lost")
    assert (f"{BELOW}/detached", commit) in hand_over().refs


def test_what_was_committed_meanwhile_is_not_uncommitted_any_more(
    hand_over: Hand, repo: Repo, work: Repo
) -> None:
    work.write("new")
    hand_over()
    assert f"{BELOW}/uncommitted" in refs(repo)
    work.commit("new")
    hand_over()
    assert f"{BELOW}/uncommitted" not in refs(repo)


def test_handing_over_again_moves_on_and_rewritten_history_is_taken(
    hand_over: Hand, repo: Repo, work: Repo
) -> None:
    work.commit("a", message="one")
    hand_over()
    work.git("commit", "-q", "--amend", "-m", "rewritten")
    (ref, commit) = hand_over().refs[0]
    assert repo.git("log", "-1", "--format=%s", ref) == "rewritten"
    assert refs(repo)[ref] == commit


def test_a_file_that_git_cannot_add_does_not_lose_the_others(hand_over: Hand, repo: Repo, work: Repo) -> None:
    make_repo(work.path / "nested")  # a repository in the repository, without a commit
    work.write("good")
    found = hand_over()
    assert found.lacks
    assert "good" in repo.git("ls-tree", "--name-only", found.tip).splitlines()


def test_without_a_commit_on_the_host_all_of_it_comes_back(tmp_path: Path, paths: BottlePaths) -> None:
    repo = make_repo(tmp_path / "empty")
    work = make_repo(tmp_path / "work")
    work.git("symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
    commit = work.commit()
    metadata = Metadata(SLUG, "a", "b", "bubblewrap", 1.0, "clone", str(repo.path), "0", BRANCH, "")
    found = take(RUNNER, capture(cast(Bottle, Inside(work.path)), metadata, paths), metadata)
    assert found.refs == ((f"{BELOW}/heads/{BRANCH}", commit),)
    assert b"+x" in difference(RUNNER, metadata, found)


def test_the_difference_is_plain_text_that_runs_nothing(
    hand_over: Hand, repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    for key in ("diff.external", "core.pager", "diff.trap.textconv", "diff.trap.command"):
        repo.git("config", key, f"touch {trap}; true")
    repo.write(".git/info/attributes", "* diff=trap\n")
    work.commit("file", "second\n")
    found = hand_over()
    assert difference(RUNNER, metadata, found).endswith(b"-first\n+second\n")
    assert b"file" in difference(RUNNER, metadata, found, "--stat")
    assert not trap.exists()


# What an agent may hand over instead


def raw_bundle(path: Path, refs: dict[str, str], source: Repo, objects: str, needs: str = "") -> Captured:
    """A bundle written by hand: any refs over the pack of these objects."""
    pack = subprocess.run(
        ["git", "-C", str(source.path), "pack-objects", "--stdout", "--revs", "--quiet"],
        input=objects.encode(),
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
    ).stdout
    lines = ["# v2 git bundle", *([f"-{needs} base"] if needs else [])]
    lines += [f"{commit} {name}" for name, commit in refs.items()]
    path.write_bytes("\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + pack)
    return Captured(path)


EVIL_NAMES = [
    "refs/heads/../../heads/main",
    "refs/heads/a\x1b[2Jb",
    "refs/heads/a b",
    "refs/heads/a:refs/heads/main",
    "refs/heads/évil",
    "refs/heads/" + "x" * 300,
    "refs/heads/*",
    "refs/tags/v1",
    "refs/remotes/origin/main",
    "refs/notes/x",
    "refs/stash",
    "refs/bottles/other-00000/heads/x",
    "HEAD",
    "refs/heads/..",
]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_ref_with_an_evil_name_is_left_in_the_bundle(
    name: str, repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    commit = work.commit("a")
    before = refs(repo)
    bundle = raw_bundle(tmp_path / "b", {name: commit, f"refs/heads/{BRANCH}": commit}, work, commit)
    try:
        found = take(RUNNER, bundle, metadata)
    except BottleError:
        assert refs(repo) == before
        return
    assert refs(repo).keys() - before.keys() <= {f"{BELOW}/heads/{BRANCH}"}
    assert found.lacks


def test_too_many_refs_are_left_in_the_bundle(
    repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    commit = work.commit("a")
    many = {f"refs/heads/b{number}": commit for number in range(1500)}
    found = take(RUNNER, raw_bundle(tmp_path / "b", many, work, commit), metadata)
    assert len(found.refs) == 1000
    assert "500 branches" in found.lacks


@pytest.mark.parametrize("kind", ["tree", "blob", "tag"])
def test_a_branch_that_is_no_commit_is_refused(
    kind: str, repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    commit = work.commit("a")
    work.git("tag", "-a", "-m", "x", "t")
    thing = {"tree": f"{commit}^{{tree}}", "blob": f"{commit}:a", "tag": "t"}[kind]
    name = work.git("rev-parse", thing)
    before = refs(repo)
    with pytest.raises(BottleError, match=r"no commit|cannot be taken over"):
        take(RUNNER, raw_bundle(tmp_path / "b", {"refs/heads/x": name}, work, f"{name}\n{commit}"), metadata)
    assert refs(repo) == before


@pytest.mark.parametrize("evil", [".git", ".GIT", "..", ".", "git~1", ".g\u200cit"])
def test_a_tree_that_would_write_gits_own_folder_is_refused(
    evil: str, repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    blob = work.git("hash-object", "-w", "--stdin", stdin=b"[core]\n\tfsmonitor = run-me\n")
    inner = work.git("mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    entry = b"40000 " + evil.encode() + b"\0" + bytes.fromhex(inner)
    tree = work.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=entry)
    commit = work.git("commit-tree", tree, "-m", "evil")
    before = refs(repo)
    bundle = raw_bundle(tmp_path / "b", {f"refs/heads/{BRANCH}": commit}, work, commit)
    with pytest.raises(BottleError, match="cannot be taken over"):
        take(RUNNER, bundle, metadata)
    assert refs(repo) == before


def test_a_submodule_with_an_option_for_an_address_is_refused(
    repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    work.write(".gitmodules", '[submodule "x"]\n\tpath = x\n\turl = -u./run-me\n')
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "evil")
    commit = work.git("rev-parse", "HEAD")
    bundle = raw_bundle(tmp_path / "b", {f"refs/heads/{BRANCH}": commit}, work, commit)
    with pytest.raises(BottleError, match="cannot be taken over"):
        take(RUNNER, bundle, metadata)


def test_a_commit_whose_parts_are_missing_is_refused(
    repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    """Else the repository would be broken once the branch is there."""
    first = work.commit("a", "one\n")
    second = work.commit("a", "two\n")
    before = refs(repo)
    bundle = raw_bundle(tmp_path / "b", {"refs/heads/x": second}, work, f"{second}\n^{first}\n")
    with pytest.raises(BottleError):
        take(RUNNER, bundle, metadata)
    assert refs(repo) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 1000,
        b"# v2 git bundle\n\n",
        b"# v2 git bundle\n" + b"0" * 40 + b" refs/heads/x\n\nPACK",
        b"# v3 git bundle\n@object-format=sha256\n\n",
        b"# v2 git bundle\n" + b"x" * (2 << 20),
        b"PACK\0\0\0\2\0\0\0\0",
    ],
)
def test_garbage_is_refused_and_changes_nothing(
    content: bytes, repo: Repo, metadata: Metadata, tmp_path: Path
) -> None:
    before = refs(repo)
    (tmp_path / "b").write_bytes(content)
    with contextlib.suppress(BottleError):
        assert take(RUNNER, Captured(tmp_path / "b"), metadata).refs == ()
    assert refs(repo) == before


def test_the_hosts_hooks_and_settings_do_not_run(
    hand_over: Hand, repo: Repo, work: Repo, tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    for name in (
        "reference-transaction",
        "post-update",
        "update",
        "pre-receive",
        "post-receive",
        "post-checkout",
    ):
        hook = repo.write(f".git/hooks/{name}", f"#!/bin/sh\ntouch {trap}\n")
        hook.chmod(0o755)
    repo.git("config", "core.fsmonitor", f"touch {trap}")
    trap.unlink(missing_ok=True)
    work.commit("a")
    hand_over()
    assert not trap.exists()


def test_all_refs_change_or_none(repo: Repo, work: Repo, metadata: Metadata, tmp_path: Path) -> None:
    """Two names of which one would be the other's folder."""
    commit = work.commit("a")
    before = refs(repo)
    bundle = raw_bundle(tmp_path / "b", {"refs/heads/x": commit, "refs/heads/x/y": commit}, work, commit)
    with pytest.raises(BottleError):
        take(RUNNER, bundle, metadata)
    assert refs(repo) == before


def test_a_repository_that_is_gone_is_named_and_the_work_is_kept(
    work: Repo, metadata: Metadata, paths: BottlePaths, repo: Repo
) -> None:
    work.commit("a")
    kept = capture(cast(Bottle, Inside(work.path)), metadata, paths)
    repo.path.rename(repo.path.with_name("moved"))
    with pytest.raises(NotFoundError) as caught:
        take(RUNNER, kept, metadata)
    assert str(kept.bundle) in str(caught.value.hint)
    assert captured(paths) == kept
    forget(paths)
    assert captured(paths) is None


def test_a_glimpse_is_not_the_last_of_it(work: Repo, metadata: Metadata, paths: BottlePaths) -> None:
    work.commit("a")
    assert capture(cast(Bottle, Inside(work.path)), metadata, paths, last=False).bundle is not None
    assert captured(paths) is None


def test_a_git_that_fails_inside_is_an_error(metadata: Metadata, paths: BottlePaths, tmp_path: Path) -> None:
    with pytest.raises(BottleError, match="cannot bundle"):
        capture(cast(Bottle, Inside(tmp_path)), metadata, paths)
    assert captured(paths) is None


def test_a_workspace_without_a_branch_hands_nothing_over(tmp_path: Path, paths: BottlePaths) -> None:
    metadata = Metadata(SLUG, "a", "b", "bubblewrap", 1.0, "bind", str(tmp_path), "0")
    assert capture(cast(Bottle, Inside(tmp_path)), metadata, paths) == Captured(None)
    assert handover.MAX_BYTES == 4 << 30
