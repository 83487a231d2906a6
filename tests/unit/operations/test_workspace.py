"""The host's part of a workspace: which mode, what is shown inside, and what is made for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from claude_bottle.backend.base import WORKSPACE, Grant
from claude_bottle.errors import BottleError, UsageError
from claude_bottle.operations.repository import Repository, observe_repository
from claude_bottle.operations.workspace import (
    OBJECTS,
    WorkspacePlan,
    choose_mode,
    grants,
    materialise,
    plan_workspace,
)
from claude_bottle.state.paths import BottlePaths
from tests.support.repositories import RUNNER, Repo, make_repo

SLUG = "reviewer-00000"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = make_repo(tmp_path / "repo")
    repo.commit("file", "first\n")
    return repo


@pytest.fixture
def paths(tmp_path: Path) -> BottlePaths:
    root = tmp_path / "state" / SLUG
    root.mkdir(parents=True)
    return BottlePaths(root)


def seen(repo: Repo) -> Repository:
    found = observe_repository(RUNNER, repo.path)
    assert found is not None
    return found


def plan(repo: Repo, mode: str, carry: bool = False) -> WorkspacePlan:
    return plan_workspace(RUNNER, mode, repo.path, seen(repo), SLUG, carry)


@pytest.mark.parametrize(
    ("asked", "configured", "in_repository", "mode"),
    [
        (None, None, True, "clone"),
        (None, None, False, "none"),
        (None, "overlay", True, "overlay"),
        ("bind", "overlay", True, "bind"),
        ("copy", None, False, "copy"),
        ("none", "clone", True, "none"),
    ],
)
def test_the_command_line_then_the_manifest_then_what_fits(
    repo: Repo, asked: str | None, configured: str | None, in_repository: bool, mode: str
) -> None:
    assert choose_mode(asked, configured, seen(repo) if in_repository else None) == mode


def test_what_cannot_be_is_refused_with_a_way_out(repo: Repo) -> None:
    linked = seen(repo)._replace(git_dir=repo.path / "elsewhere")
    borrowing = seen(repo)._replace(objects=(repo.path, repo.path.parent))
    for asked, repository in (
        ("moon", seen(repo)),
        ("clone", None),
        ("overlay", linked),
        ("copy", linked),
        ("overlay", borrowing),
        ("copy", borrowing),
    ):
        with pytest.raises(UsageError) as caught:
            choose_mode(asked, None, repository)
        assert caught.value.hint


def test_what_each_mode_shows(repo: Repo, paths: BottlePaths) -> None:
    own = Grant(str(paths.workspace), WORKSPACE, writable=True)
    assert grants(plan(repo, "clone"), paths) == (own, Grant(str(repo.path / ".git/objects"), f"{OBJECTS}/0"))
    assert grants(plan(repo, "copy"), paths) == (own,)
    assert grants(plan(repo, "none"), paths) == (own,)
    (bind,) = grants(plan(repo, "bind"), paths)
    assert (bind.source, bind.writable, bind.owned_by_operator) == (str(repo.path), True, True)
    (overlay,) = grants(plan(repo, "overlay"), paths)
    assert (overlay.source, overlay.overlay) == (str(repo.path), str(paths.overlay))


def test_only_bind_and_overlay_show_the_hosts_tree_and_only_bind_writes_it(
    repo: Repo, paths: BottlePaths
) -> None:
    for mode in ("clone", "copy", "none", "bind", "overlay"):
        for grant in grants(plan(repo, mode), paths):
            of_the_host = not grant.source.startswith(str(paths.root))
            if of_the_host and grant.writable:
                assert mode == "bind" or grant.overlay is not None


def test_a_clone_has_the_branches_tags_and_the_commit_but_no_object_of_its_own(
    repo: Repo, paths: BottlePaths
) -> None:
    repo.git("tag", "v1")
    repo.git("branch", "feature")
    repo.git("remote", "add", "origin", "https://user:token@example.org/a.git")
    materialise(RUNNER, plan(repo, "clone"), paths)
    clone = Repo(paths.workspace)
    refs = (paths.workspace / ".git" / "packed-refs", *(paths.workspace / ".git" / "refs").rglob("*"))
    assert any(path.exists() for path in refs)
    alternates = paths.workspace / ".git/objects/info/alternates"
    assert alternates.read_text() == f"{OBJECTS}/0\n"
    alternates.write_text(f"{repo.path}/.git/objects\n")  # as it is seen from inside
    assert clone.git("for-each-ref", "--format=%(refname)").splitlines() == [
        "refs/claude-bottle/base",
        "refs/remotes/origin/feature",
        "refs/remotes/origin/main",
        "refs/tags/v1",
    ]
    assert clone.git("symbolic-ref", "HEAD") == f"refs/heads/bottle/{SLUG}"
    assert clone.git("config", "remote.origin.url") == "https://example.org/a.git"
    assert not list((paths.workspace / ".git/objects").glob("??"))
    assert not (paths.workspace / ".git/hooks").exists()
    assert "token" not in (paths.workspace / ".git/config").read_text()


def test_a_clone_takes_nothing_from_the_hosts_templates(
    repo: Repo, paths: BottlePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text("#!/bin/sh\n")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(hooks.parent))
    materialise(RUNNER, plan(repo, "clone"), paths)
    assert not (paths.workspace / ".git/hooks").exists()


def test_the_source_is_as_before_whatever_is_made_of_it(repo: Repo, paths: BottlePaths) -> None:
    repo.write("dirty", "not committed\n")
    before = {path: path.read_bytes() for path in repo.path.rglob("*") if path.is_file()}
    for mode in ("clone", "copy", "overlay", "none", "bind"):
        shutil.rmtree(paths.root)
        paths.root.mkdir()
        materialise(RUNNER, plan(repo, mode, carry=True), paths)
    assert {path: path.read_bytes() for path in repo.path.rglob("*") if path.is_file()} == before
    assert repo.git("status", "--porcelain") == "?? dirty"


def test_uncommitted_changes_are_carried_where_that_is_asked(repo: Repo, paths: BottlePaths) -> None:
    repo.write("file", "changed\n")
    repo.write("new name", "new\n")
    repo.write(".gitignore", "ignored\n")
    repo.write("ignored", "secret\n")
    materialise(RUNNER, plan(repo, "clone", carry=True), paths)
    (paths.workspace / ".git/objects/info/alternates").write_text(f"{repo.path}/.git/objects\n")
    clone = Repo(paths.workspace)
    assert clone.git("ls-tree", "--name-only", "refs/claude-bottle/carried").splitlines() == [
        ".gitignore",
        "file",
        "new name",
    ]
    assert clone.git("show", "refs/claude-bottle/carried:file") == "changed"


def test_a_repository_without_a_commit_can_be_cloned(tmp_path: Path, paths: BottlePaths) -> None:
    repo = make_repo(tmp_path / "empty")
    materialise(RUNNER, plan(repo, "clone"), paths)
    assert Repo(paths.workspace).git("symbolic-ref", "HEAD") == f"refs/heads/bottle/{SLUG}"


def test_a_shallow_repository_stays_shallow(repo: Repo, paths: BottlePaths, tmp_path: Path) -> None:
    repo.commit("second")
    Repo(tmp_path).git("clone", "-q", "--depth", "1", f"file://{repo.path}", str(tmp_path / "shallow"))
    shallow = Repo(tmp_path / "shallow")
    materialise(RUNNER, plan(shallow, "clone"), paths)
    assert (paths.workspace / ".git/shallow").read_text() == (shallow.path / ".git/shallow").read_text()


def test_sha256_is_kept(tmp_path: Path, paths: BottlePaths) -> None:
    repo = make_repo(tmp_path / "long", "--object-format=sha256")
    repo.commit()
    materialise(RUNNER, plan(repo, "clone"), paths)
    assert Repo(paths.workspace).git("rev-parse", "--show-object-format") == "sha256"


def test_a_copy_is_the_tree_as_it_is(repo: Repo, paths: BottlePaths) -> None:
    repo.write("dirty", "not committed\n")
    (repo.path / "link").symlink_to("file")
    materialise(RUNNER, plan(repo, "copy"), paths)
    assert (paths.workspace / "dirty").read_text() == "not committed\n"
    assert (paths.workspace / "link").readlink() == Path("file")
    assert Repo(paths.workspace).git("status", "--porcelain") == repo.git("status", "--porcelain")


def test_a_folder_that_cannot_be_copied_is_an_error(repo: Repo, paths: BottlePaths) -> None:
    gone = plan(repo, "copy")._replace(folder=repo.path / "gone")
    with pytest.raises(BottleError, match="cannot copy"):
        materialise(RUNNER, gone, paths)


def test_what_the_operator_should_know_is_said(repo: Repo) -> None:
    repo.write("dirty")
    assert any("--carry" in note for note in plan(repo, "clone").notes())
    assert not any("--carry" in note for note in plan(repo, "clone", carry=True).notes())
    assert any("object store can be read" in note for note in plan(repo, "clone").notes())
    assert any(".git/hooks" in note for note in plan(repo, "bind").notes())
    repo.commit(".gitignore", ".env\n")
    repo.write(".env")
    assert any(".env" in note for note in plan(repo, "overlay").notes())
    assert any("empty" in note for note in WorkspacePlan("none", repo.path, None, SLUG).notes())


def test_only_a_workspace_with_a_branch_of_its_own_can_be_handed_over(repo: Repo) -> None:
    branches = {mode: plan(repo, mode).branch for mode in ("clone", "copy", "overlay", "bind")}
    assert branches["bind"] == ""
    assert {branches[mode] for mode in ("clone", "copy", "overlay")} == {f"bottle/{SLUG}"}
    assert WorkspacePlan("copy", repo.path, None, SLUG).branch == ""
