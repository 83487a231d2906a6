"""What an overlay hides: files that look secret, and git's own credentials."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.operations.masks import (
    clean_config,
    hide_credentials,
    looks_secret,
    secret_files,
    whiteout,
)
from claude_bottle.operations.repository import observe_repository
from tests.support.repositories import RUNNER, Repo, make_repo


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".env",
            ".env.local",
            "prod.env",
            "deep/er/.ENV",
            "server.pem",
            "tls.KEY",
            "id_rsa",
            "id_ed25519.bak",
        ),
        *(".npmrc", ".netrc", ".git-credentials", "aws-credentials.json", "client_secret.json", "x.tfstate"),
        *(".aws", ".ssh", ".kube", "kubeconfig", "store.p12", "app.keystore", "Secrets.yaml"),
    ],
)
def test_what_looks_secret(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "environment.py",
        ".env.example",
        "main.key.sample",
        "README",
        "keys",
        "pem",
        ".envrc.template",
        "x.pub",
    ],
)
def test_what_does_not(name: str) -> None:
    assert not looks_secret(name)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = make_repo(tmp_path / "repo")
    repo.write(".gitignore", ".env\n*.key\nbuild/\nsecrets/\n")
    repo.write("tracked.key", "meant to be shared\n")
    repo.git("add", "-f", "tracked.key")
    repo.commit()
    return repo


def hidden(repo: Repo) -> set[str]:
    return set(secret_files(RUNNER, repo.path, observe_repository(RUNNER, repo.path)))


def test_ignored_files_that_look_secret_are_found_wherever_they_are(repo: Repo) -> None:
    for name in (
        ".env",
        "server.key",
        "deep/.env",
        "build/out.o",
        "build/cache/token.key",
        "secrets/any",
        "untracked",
    ):
        repo.write(name)
    assert hidden(repo) == {".env", "server.key", "deep/.env", "build/cache/token.key", "secrets"}


def test_names_with_anything_in_them(repo: Repo) -> None:
    for name in ("a b.key", "line\nbreak.key", "é.key", '"quoted".key'):
        repo.write(name)
    assert hidden(repo) == {"a b.key", "line\nbreak.key", "é.key", '"quoted".key'}


def test_a_link_in_an_ignored_folder_is_not_followed(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.key").write_text("x")
    (repo.path / "build").symlink_to(tmp_path / "elsewhere")
    assert hidden(repo) == set()


def test_without_a_repository_every_file_counts(tmp_path: Path) -> None:
    for name in (".env", "README", "deep/x.pem"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert set(secret_files(RUNNER, tmp_path, None)) == {".env", "deep/x.pem"}


@pytest.mark.needs("root")
def test_a_whiteout_is_what_the_kernel_takes_for_one(repo: Repo, tmp_path: Path) -> None:
    repo.write("deep/er/.env")
    (repo.path / "deep").chmod(0o750)
    upper = tmp_path / "upper"
    upper.mkdir()
    for _ in range(2):  # a second launch finds it there
        whiteout(upper, repo.path, "deep/er/.env")
    found = (upper / "deep" / "er" / ".env").lstat()
    assert stat.S_ISCHR(found.st_mode)
    assert found.st_rdev == os.makedev(0, 0)
    assert (upper / "deep").stat().st_mode & 0o777 == 0o750


def test_what_cannot_be_hidden_stops_the_launch(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", refuses)
    with pytest.raises(BottleError, match="cannot hide") as caught:
        whiteout(tmp_path, repo.path, ".env")
    assert "clone" in str(caught.value.hint)


SETTINGS = """
[core]
	repositoryformatversion = 0
	bare = false
	fsmonitor = /tmp/run-me
	hooksPath = /tmp/hooks
	sshCommand = ssh -i /home/operator/.ssh/id
	editor = run-me
	pager = run-me
[remote "origin"]
	url = https://user:token@example.org/a.git
	fetch = +refs/heads/*:refs/remotes/origin/*
	proxy = http://user:pass@proxy.example.org
	uploadpack = run-me
	vcs = run-me
[remote "odd \\"name\\""]
	url = user:secret@example.org:a
[branch "main"]
	remote = https://user:token@example.org/b.git
	merge = refs/heads/main
	description = "a \\"quoted\\" thing # not a comment"
[http]
	extraHeader = Authorization: Basic c2VjcmV0
	proxy = http://user:pass@example.org
[http "https://example.org"]
	extraheader = AUTHORIZATION: bearer token
[credential]
	helper = store --file=/home/operator/.git-credentials
[include]
	path = /home/operator/private.config
[alias]
	x = !run-me
[filter "lfs"]
	smudge = run-me
	process = run-me
[diff "x"]
	command = run-me
	textconv = run-me
[url "https://user:token@example.org/"]
	insteadOf = https://example.org/
[gpg]
	program = run-me
[user]
	name = Operator
	signingkey = ABCDEF
[extensions]
	objectformat = sha1
"""


def test_gits_settings_without_secrets_and_without_anything_that_runs(tmp_path: Path) -> None:
    config = tmp_path / "repo" / "config"
    config.parent.mkdir()
    config.write_text(SETTINGS)
    clean = tmp_path / "clean"
    clean.write_text(clean_config(RUNNER, config, submodule=False))
    text = clean.read_text()
    for word in (
        "token",
        "secret",
        "pass@",
        "run-me",
        "helper",
        "private",
        "Authorization",
        "hooks",
        ".ssh",
        "proxy",
    ):
        assert word.lower() not in text.lower(), word
    listed = Repo(tmp_path).git("config", "--file", str(clean), "--list").splitlines()
    for line in (
        "core.bare=false",
        "remote.origin.url=https://example.org/a.git",
        "remote.origin.fetch=+refs/heads/*:refs/remotes/origin/*",
        "branch.main.merge=refs/heads/main",
        'branch.main.description=a "quoted" thing # not a comment',
        "user.name=Operator",
        "extensions.objectformat=sha1",
    ):
        assert line in listed


def test_the_clean_settings_lie_over_the_real_ones(repo: Repo, tmp_path: Path) -> None:
    repo.git("config", "http.extraHeader", "Authorization: secret")
    repository = observe_repository(RUNNER, repo.path)
    assert repository is not None
    upper = tmp_path / "upper"
    upper.mkdir()
    hide_credentials(RUNNER, repository, upper)
    assert "secret" not in (upper / ".git" / "config").read_text()
    assert "secret" in (repo.path / ".git" / "config").read_text()


@pytest.mark.needs("root")
def test_other_files_of_git_that_look_secret_are_hidden(repo: Repo, tmp_path: Path) -> None:
    for name in ("config.worktree", "credentials", "token.key"):
        (repo.path / ".git" / name).write_text("secret")
    repository = observe_repository(RUNNER, repo.path)
    assert repository is not None
    upper = tmp_path / "upper"
    upper.mkdir()
    hide_credentials(RUNNER, repository, upper)
    for name in ("config.worktree", "credentials", "token.key"):
        assert stat.S_ISCHR((upper / ".git" / name).lstat().st_mode), name
