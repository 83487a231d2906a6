"""What a value of a manifest may say."""

from __future__ import annotations

import pytest

from claude_bottle.manifest.model import EnvValue, Manifest
from tests.support.manifests import bottle, lines


@pytest.mark.parametrize(
    "value", ["${}", "${A B}", "${lower-case}", "a${HOME}", "${A}${B}", "?a\x1b[2J", "a\0"]
)
def test_environment_values_that_mean_something_else_than_they_say(value: str) -> None:
    assert len(lines(bottle(env={"A": value}))) == 1


@pytest.mark.parametrize("value", ["", "$HOME", "a?", "two\nlines", " ?"])
def test_literals(value: str) -> None:
    assert Manifest.from_json_obj(bottle(env={"A": value})).bottles["dev"].env["A"] == EnvValue(
        "literal", value
    )


@pytest.mark.parametrize(
    "value", ["512", "0M", "1.5G", "4g", "4GB", "-1M", " 1M", "1M\n", "", "1" * 12 + "M"]
)
def test_sizes(value: str) -> None:
    assert len(lines(bottle(limits={"memory": value}))) == 1


@pytest.mark.parametrize("value", ["90", "0s", "1d", "1h30m", "", "2H"])
def test_durations(value: str) -> None:
    assert len(lines(bottle(limits={"wall_time": value}))) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"Host": "box"},
        {"Host": "*", "IdentityFile": "/k"},
        {"Host": "-oProxyCommand=x", "IdentityFile": "/k"},
        {"Host": "box", "IdentityFile": "/k\nProxyCommand x"},
        {"Host": "box", "IdentityFile": "relative"},
        {"Host": "box", "IdentityFile": "/k", "User": "me\nProxyCommand x"},
        {"Host": "box", "IdentityFile": "/k", "Hostname": "127.1"},
        {"Host": "box", "IdentityFile": "/k", "Port": "22"},
        {"Host": "box", "IdentityFile": "/k", "KnownHostKey": "ssh-rsa x\n* ssh-rsa y"},
    ],
)
def test_ssh_entries_cannot_smuggle_a_line(entry: object) -> None:
    assert len(lines(bottle(ssh=[entry]))) == 1


def test_ssh_entries_are_told_apart_by_host() -> None:
    entry = {"Host": "box", "IdentityFile": "/k"}
    assert lines(bottle(ssh=[entry, entry])) == ["bottles.dev.ssh[1]: is in the list already"]


@pytest.mark.parametrize(
    "url",
    ["", "-u", "--upload-pack=x", "ext::sh -c x", "file://relative", "http://a.example/x", "https://a.example"]
    + ["https://u:p@a.example/x", "ssh://-oProxyCommand=x/y", "-oX@a:b", "a.example:-x", "git@a:b c"],
)  # fmt: skip
def test_git_urls(url: str) -> None:
    assert len(lines(bottle(git={"repos": {"a": {"url": url}}}))) == 1


@pytest.mark.parametrize(
    "ref",
    ["main", "refs/notes/x", "refs/heads/", "refs/heads/a..b", "refs/heads/a.lock", "+refs/heads/x"],
)
def test_git_refs(ref: str) -> None:
    assert len(lines(bottle(git={"repos": {"a": {"url": "https://a.example/x", "refs": [ref]}}}))) == 1


@pytest.mark.parametrize(
    ("written", "tools"),
    [
        ("Read, Grep", ("Read", "Grep")),
        ("Bash(git log:*, x), Read", ("Bash(git log:*, x)", "Read")),
        (["Read"], ("Read",)),
        ("", ()),
    ],
)
def test_tools(written: object, tools: tuple[str, ...]) -> None:
    obj = {"bottles": {"dev": {}}, "agents": {"a": {"bottle": "dev", "tools": written}}}
    assert Manifest.from_json_obj(obj).agents["a"].tools == tools


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "--mcp-config=x"),
        ("model", "opus --x"),
        ("name", "-x"),
        ("tools", "Read, --x"),
        ("tools", ["--x"]),
        ("memory", ["user"]),
        ("prompt", "a\ud800"),
        ("prompt", "a\0"),
        ("description", 1),
        ("git", {"user": {"name": "a <b>"}}),
        ("git", {"repos": {}}),
    ],
)
def test_what_an_agent_cannot_say(key: str, value: object) -> None:
    assert len(lines({"bottles": {"dev": {}}, "agents": {"a": {"bottle": "dev", key: value}}})) == 1
