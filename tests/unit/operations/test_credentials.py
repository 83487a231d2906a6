"""The operator's secrets: read only when wanted, from where the manifest says; missing is an error without a value."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.manifest.model import EnvValue
from claude_bottle.operations.claude import API_KEY, AUTH_TOKEN, OAUTH_TOKEN
from claude_bottle.operations.credentials import (
    claude_credential,
    find_claude,
    private_environment,
    read_credentials,
)
from claude_bottle.policy.model import Auth, Route, SecretRef
from claude_bottle.proc import Command, ProgramMissing, Result, Runner, SystemRunner, TimeOver
from tests.support.fake_runner import fake_runner, says

SECRET = "sk-very-secret"
ORIGIN = "/home/ann/dev.md:4"
HELPER = SecretRef("command", ("/opt/helper", "--account", "work"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `~` is, so that no account of the tester's own is found."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def read(
    secret: SecretRef, environment: Mapping[str, str] | None = None, runner: Runner | None = None
) -> str:
    route = Route("example.org", auth=Auth("bearer", secret), origin=ORIGIN)
    found = read_credentials(runner or SystemRunner({}), environment or {}, [route])
    assert list(found) == [str(secret)]
    return found[str(secret)]


def file(path: Path, content: str | bytes = SECRET + "\n") -> SecretRef:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return SecretRef("file", (str(path),))


def refused(
    secret: SecretRef, environment: Mapping[str, str] | None = None, runner: Runner | None = None
) -> BottleError:
    with pytest.raises(BottleError) as caught:
        read(secret, environment, runner)
    return caught.value


# Secrets


def test_a_secret_of_each_kind_is_read_from_where_it_is(tmp_path: Path, home: Path) -> None:
    assert read(SecretRef("env", ("TOKEN",)), {"TOKEN": SECRET}) == SECRET
    assert read(file(tmp_path / "token", f"\n {SECRET}\n\n")) == SECRET
    (home / "token").write_text(SECRET)
    assert read(SecretRef("file", ("~/token",))) == SECRET
    with fake_runner((HELPER.argument, says(f"{SECRET}\n"))) as runner:
        assert read(HELPER, runner=runner) == SECRET


def test_a_secret_of_the_environment_is_the_operators_and_not_this_processs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    assert isinstance(refused(SecretRef("env", ("TOKEN",)), {"OTHER": "x"}), NotFoundError)


def test_a_helper_is_run_once_without_a_shell_and_without_the_operators_secrets(tmp_path: Path) -> None:
    secret = SecretRef("command", ("printenv",))
    shown = read(secret, runner=SystemRunner({"PATH": os.environ["PATH"], "ANTHROPIC_API_KEY": SECRET}))
    assert SECRET not in shown
    literal = SecretRef("command", ("printf", "%s|", "$HOME", "a b; touch x", "*"))
    assert read(literal, runner=SystemRunner(os.environ)) == "$HOME|a b; touch x|*|"
    routes = [Route(host, auth=Auth("bearer", HELPER)) for host in ("a.example.org", "b.example.org")]
    with fake_runner((HELPER.argument, says(SECRET))) as runner:  # a second command would fail
        assert read_credentials(runner, {}, routes) == {str(HELPER): SECRET}
    assert runner.commands[0].timeout <= 60
    assert (runner.commands[0].stdin, runner.commands[0].keep) == (b"", ())


def test_what_no_route_wants_is_not_read(tmp_path: Path) -> None:
    with fake_runner() as runner:
        assert read_credentials(runner, {"ANTHROPIC_API_KEY": SECRET}, [Route("example.org")]) == {}


def test_one_missing_secret_is_enough_to_stop(tmp_path: Path) -> None:
    good = Route("a.example.org", auth=Auth("bearer", SecretRef("env", ("TOKEN",))))
    bad = Route("b.example.org", auth=Auth("bearer", SecretRef("env", ("NONE",))), origin=ORIGIN)
    for routes in ([good, bad], [bad, good]):
        with pytest.raises(NotFoundError) as caught:
            read_credentials(SystemRunner({}), {"TOKEN": SECRET}, routes)
        assert caught.value.message == f"{ORIGIN}: the secret env:NONE is empty or missing"
        assert caught.value.hint is not None
        assert "export NONE" in caught.value.hint


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_unset_or_empty_is_missing(value: str | None) -> None:
    environment = {} if value is None else {"TOKEN": value}
    assert isinstance(refused(SecretRef("env", ("TOKEN",)), environment), NotFoundError)


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_file_is_a_missing_secret(tmp_path: Path, content: str) -> None:
    error = refused(file(tmp_path / "token", content))
    assert isinstance(error, NotFoundError)
    assert error.hint is not None
    assert str(tmp_path / "token") in error.hint


def test_a_file_that_cannot_be_read_is_named_with_the_reason_and_the_route(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "gone", "No such file or directory"), (tmp_path, "Is a directory")):
        error = refused(SecretRef("file", (str(path),)))
        assert error.message == f"{ORIGIN}: the secret file {path} cannot be read: {reason}"


def test_a_file_that_is_too_long_for_a_secret_is_refused_and_not_cut(tmp_path: Path) -> None:
    error = refused(file(tmp_path / "token", "x" * ((1 << 20) + 1)))
    assert error.message == f"{ORIGIN}: the secret file {tmp_path / 'token'} is longer than 1 MiB"


def test_a_file_that_is_no_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    error = refused(file(tmp_path / "token", SECRET.encode() + b"\xff"))
    assert "it is not UTF-8 text" in error.message
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert SECRET not in str(error)


@pytest.mark.parametrize("printed", ["", "\n \n"])
def test_a_helper_that_prints_nothing_has_no_secret(printed: str) -> None:
    with fake_runner((HELPER.argument, says(printed))) as runner:
        error = refused(HELPER, runner=runner)
    assert isinstance(error, NotFoundError)
    assert error.message == f"{ORIGIN}: the secret command:/opt/helper is empty or missing"


def test_what_a_helper_says_that_is_no_text_is_refused_without_quoting_it() -> None:
    with fake_runner((HELPER.argument, lambda _: Result(0, SECRET.encode() + b"\xff"))) as runner:
        error = refused(HELPER, runner=runner)
    assert error.message == f"{ORIGIN}: what the secret command:/opt/helper gave is not UTF-8 text"
    assert error.__suppress_context__
    assert SECRET not in f"{error.message} {error.hint}"


def test_what_a_failing_helper_printed_is_not_taken_and_not_shown() -> None:
    with fake_runner((HELPER.argument, says(SECRET, 1, "the vault is locked"))) as runner:
        error = refused(HELPER, runner=runner)
    assert error.message == f"{ORIGIN}: the command of a secret failed: the vault is locked"
    assert SECRET not in f"{error.message} {error.hint}"


def test_a_helper_that_is_missing_or_never_ends_stops_the_launch() -> None:
    assert isinstance(refused(SecretRef("command", ("/no/such/program",))), ProgramMissing)

    def never(command: Command) -> Result:
        raise TimeOver("it did not end")

    with fake_runner((HELPER.argument, never)) as runner:
        assert isinstance(refused(HELPER, runner=runner), TimeOver)


# Claude Code's account


def test_the_account_is_found_by_name_and_its_value_is_not_kept(home: Path) -> None:
    accounts = (API_KEY, OAUTH_TOKEN, AUTH_TOKEN)
    for index, expected in enumerate(accounts):
        environment = {credential.variable: SECRET for credential in accounts[index:]}
        found = claude_credential(environment)
        assert found == expected
        assert SECRET not in repr(found)


def test_an_empty_variable_is_no_account(home: Path) -> None:
    assert claude_credential({API_KEY.variable: "", AUTH_TOKEN.variable: SECRET}) == AUTH_TOKEN
    assert claude_credential({API_KEY.variable: ""}) is None
    assert claude_credential({}) is None


def login(folder: Path, content: object) -> None:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / ".credentials.json").write_text(text)


@pytest.mark.parametrize("configured", [False, True])
def test_a_login_of_claude_code_gives_its_access_token_and_no_other(
    home: Path, tmp_path: Path, configured: bool
) -> None:
    folder = tmp_path / "configured" if configured else home / ".claude"
    login(folder, {"claudeAiOauth": {"accessToken": SECRET, "refreshToken": "never"}})
    found = claude_credential({"CLAUDE_CONFIG_DIR": str(folder)} if configured else {})
    assert found is not None
    assert (found.scheme, found.variable) == (OAUTH_TOKEN.scheme, OAUTH_TOKEN.variable)
    assert found.secret == SecretRef("login", (str(folder / ".credentials.json"),))
    assert read(found.secret) == SECRET


def test_a_configured_folder_without_a_login_does_not_fall_back(home: Path, tmp_path: Path) -> None:
    login(home / ".claude", {"claudeAiOauth": {"accessToken": SECRET}})
    assert claude_credential({"CLAUDE_CONFIG_DIR": str(tmp_path)}) is None


@pytest.mark.parametrize(
    "content",
    [
        f"{SECRET} is not JSON",
        "[]",
        {"claudeAiOauth": SECRET},
        {"claudeAiOauth": {"refreshToken": SECRET}},
        {"other": {"accessToken": SECRET}},
        {"claudeAiOauth": {"accessToken": ""}, "note": SECRET},
        {"claudeAiOauth": {"accessToken": None}, "note": SECRET},
        {"claudeAiOauth": {"accessToken": [SECRET]}},
    ],
)
def test_a_broken_login_is_an_error_that_quotes_nothing(home: Path, content: object) -> None:
    login(home / ".claude", content)
    found = claude_credential({})
    assert found is not None
    error = refused(found.secret)
    assert ".credentials.json" in error.message
    assert SECRET not in f"{error.message} {error.hint}"


# Variables


def test_only_what_the_host_or_the_operator_gives_is_private() -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return f"answer {len(asked)}"

    declared = {
        "PLAIN": EnvValue("literal", "in the manifest"),
        "COPIED": EnvValue("host", "ON_THE_HOST"),
        "EMPTY": EnvValue("host", "NOTHING"),
        "ASKED": EnvValue("ask", "What is it?"),
        "BARE": EnvValue("ask", ""),
    }
    environment = {"ON_THE_HOST": "a\nb", "NOTHING": "", "COPIED": "not this one", "STRAY": "stray"}
    assert private_environment(declared, environment, ask) == {
        "COPIED": "a\nb",
        "EMPTY": "",
        "ASKED": "answer 1",
        "BARE": "answer 2",
    }
    assert asked == ["What is it?", "BARE: "]


def test_a_variable_that_the_host_does_not_have_is_an_error_and_not_empty() -> None:
    with pytest.raises(NotFoundError) as caught:
        private_environment({"A": EnvValue("host", "B")}, {"A": SECRET}, lambda question: "")
    assert (caught.value.message, caught.value.hint) == ("env A: B is not set on this host", "export B")


def test_who_cannot_be_asked_gives_no_answer() -> None:
    def nobody(question: str) -> str:
        raise BottleError("there is no terminal")

    with pytest.raises(BottleError, match="there is no terminal"):
        private_environment({"A": EnvValue("ask", "")}, {}, nobody)


# Claude Code's program


def program(path: Path, content: bytes = b"\x7fELF...") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def test_the_program_that_was_chosen_then_the_pinned_then_the_one_on_the_path(tmp_path: Path) -> None:
    chosen = program(tmp_path / "chosen")
    real = program(tmp_path / "versions" / "9")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "claude").symlink_to(real)
    path = {"PATH": str(tmp_path / "bin")}
    checkout = tmp_path / "checkout"
    assert find_claude(path, checkout) == real
    old = program(checkout / ".tools" / "claude-code" / "2.9.0" / "claude")
    new = program(checkout / ".tools" / "claude-code" / "2.10.0" / "claude")
    os.utime(old, (1000, 1000))
    assert find_claude(path, checkout) == new
    assert find_claude({**path, "CLAUDE_BOTTLE_CLAUDE": str(chosen)}, checkout) == chosen


def test_a_bad_choice_is_an_error_and_nothing_else_is_taken(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "claude")
    script = program(tmp_path / "script", b"#!/usr/bin/env node\n")
    path = {"PATH": str(tmp_path / "bin")}
    for bad, words in (
        (script, "is not the native Claude Code binary"),
        (tmp_path / "gone", "cannot be read"),
        (tmp_path, "cannot be read"),
        (program(tmp_path / "empty", b""), "is not the native"),
    ):
        with pytest.raises(NotFoundError, match=words):
            find_claude({**path, "CLAUDE_BOTTLE_CLAUDE": str(bad)}, tmp_path)
    (tmp_path / "bin" / "claude").write_bytes(b"#!/bin/sh\n")
    with pytest.raises(NotFoundError, match="is not the native"):
        find_claude(path, tmp_path)


def test_no_program_at_all_comes_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        find_claude({"PATH": str(tmp_path)}, tmp_path)
    assert caught.value.hint is not None
    assert "CLAUDE_BOTTLE_CLAUDE" in caught.value.hint
