"""What is known of a host repository, asked of the real git."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.operations.repository import Repository, git, observe_repository, without_credentials
from tests.support.fake_runner import fake_runner, says
from tests.support.repositories import RUNNER, Repo, make_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return make_repo(tmp_path / "repo")


def observe(path: Path) -> Repository:
    found = observe_repository(RUNNER, path)
    assert found is not None
    return found


def test_a_plain_repository(repo: Repo) -> None:
    head = repo.commit()
    found = observe(repo.path)
    assert found == Repository(
        top=repo.path,
        git_dir=repo.path / ".git",
        common_dir=repo.path / ".git",
        objects=(repo.path / ".git" / "objects",),
        head=head,
        branch="main",
        object_format="sha1",
        shallow=False,
        dirty=False,
        submodules=False,
        origin="",
    )
    assert not found.linked


def test_from_a_folder_below_its_top(repo: Repo) -> None:
    repo.commit("deep/er/file")
    assert observe(repo.path / "deep" / "er").top == repo.path


def test_before_the_first_commit(repo: Repo) -> None:
    repo.write("new")
    found = observe(repo.path)
    assert (found.head, found.branch, found.dirty) == ("", "main", True)


def test_a_detached_head(repo: Repo) -> None:
    head = repo.commit()
    repo.git("checkout", "-q", "--detach")
    assert (observe(repo.path).head, observe(repo.path).branch) == (head, "")


@pytest.mark.parametrize("change", ["changed", "new", "staged", "deleted"])
def test_what_is_not_committed(repo: Repo, change: str) -> None:
    repo.commit("file", "before\n")
    assert not observe(repo.path).dirty
    if change == "changed":
        repo.write("file", "after\n")
    elif change == "new":
        repo.write("new name")
    elif change == "staged":
        repo.write("staged")
        repo.git("add", "staged")
    else:
        (repo.path / "file").unlink()
    assert observe(repo.path).dirty


def test_what_is_ignored_is_not_dirty(repo: Repo) -> None:
    repo.commit(".gitignore", "*.log\n")
    repo.write("x.log")
    assert not observe(repo.path).dirty


def test_a_linked_work_tree(repo: Repo, tmp_path: Path) -> None:
    repo.commit()
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    found = observe(tmp_path / "linked")
    assert found.linked
    assert found.common_dir == repo.path / ".git"
    assert found.objects == (repo.path / ".git" / "objects",)


def test_a_repository_that_borrows_objects(repo: Repo, tmp_path: Path) -> None:
    repo.commit()
    for name, source in (("second", repo.path), ("third", tmp_path / "second")):
        Repo(tmp_path).git("clone", "-q", "--shared", str(source), str(tmp_path / name))
    found = observe(tmp_path / "third")
    assert found.objects == tuple(
        folder / ".git" / "objects" for folder in (tmp_path / "third", tmp_path / "second", repo.path)
    )


def test_alternates_without_end_are_refused(repo: Repo) -> None:
    repo.commit()
    store = repo.path / ".git" / "objects"
    for level in range(8):
        folder = repo.path.parent / f"store{level}"
        (folder / "info").mkdir(parents=True)
        (store / "info").mkdir(exist_ok=True)
        (store / "info" / "alternates").write_text(f"{folder}\n")
        store = folder
    with pytest.raises(BottleError):
        observe_repository(RUNNER, repo.path)


def test_a_shallow_clone(repo: Repo, tmp_path: Path) -> None:
    repo.commit()
    repo.commit("second")
    Repo(tmp_path).git("clone", "-q", "--depth", "1", f"file://{repo.path}", str(tmp_path / "shallow"))
    found = observe(tmp_path / "shallow")
    assert found.shallow
    assert found.origin == f"file://{repo.path}"


def test_sha256_and_submodules(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo", "--object-format=sha256")
    repo.commit(".gitmodules", "")
    found = observe(repo.path)
    assert (found.object_format, len(found.head), found.submodules) == ("sha256", 64, True)


def test_no_repository(tmp_path: Path) -> None:
    assert observe_repository(RUNNER, tmp_path) is None


def test_a_bare_repository_has_no_work_tree(tmp_path: Path) -> None:
    make_repo(tmp_path / "bare.git", "--bare")
    assert observe_repository(RUNNER, tmp_path / "bare.git") is None


def test_a_broken_repository_is_an_error_and_not_none(repo: Repo) -> None:
    repo.commit()
    (repo.path / ".git" / "config").write_text("[core\n")
    with pytest.raises(BottleError, match="git cannot read"):
        observe_repository(RUNNER, repo.path)


def test_a_repository_of_somebody_else_is_an_error_with_a_hint(tmp_path: Path) -> None:
    said = "fatal: detected dubious ownership in repository at '/srv/x'"
    with fake_runner((("git", ...), says(status=128, complaint=said))) as runner:
        with pytest.raises(BottleError, match="dubious") as caught:
            observe_repository(runner, tmp_path)
    assert "safe.directory" in str(caught.value.hint)


def test_looking_changes_nothing(repo: Repo) -> None:
    repo.commit()
    repo.write("file", "x\n")  # same content, new time: git would like to refresh its index
    before = {path: path.stat().st_mtime_ns for path in (repo.path / ".git").rglob("*")}
    observe(repo.path)
    assert {path: path.stat().st_mtime_ns for path in (repo.path / ".git").rglob("*")} == before


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://user:token@example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://token@example.org/a", "https://example.org/a"),
        ("https://example.org:8443/a?token=x#y", "https://example.org:8443/a"),
        ("ssh://git@example.org:22/a", "ssh://example.org:22/a"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("user:secret@example.org:a", ""),
        ("https://user:p@ss@example.org/a", "https://example.org/a"),
        ("https://[::1", ""),
        ("/srv/repo", "/srv/repo"),
        ("../repo", "../repo"),
        ("file:///srv/repo", "file:///srv/repo"),
        ("helper::https://user:password@example.org/a", ""),
        ("", ""),
    ],
)
def test_urls_lose_their_credentials(url: str, plain: str) -> None:
    assert without_credentials(url) == plain


def test_git_never_asks_and_never_locks(tmp_path: Path) -> None:
    command = git(tmp_path, "status")
    assert dict(command.environment) == {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    assert command.argv == ("git", "-C", str(tmp_path), "status")
