"""Is this host fit for bubblewrap? Observed once, judged by pure code, and a doubt is a no."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.backend.bubblewrap import host
from claude_bottle.backend.bubblewrap.host import (
    _cgroup_parents,
    explain_failure,
    judge,
    observe,
    parse_version,
)
from tests.support.fake_runner import fake_runner, says
from tests.support.plans import DEBIAN, ROOT


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("bubblewrap 0.8.0\n", (0, 8, 0)),
        ("bubblewrap 0.12\n", (0, 12, 0)),
        ("bubblewrap 1.2.3-4.fc50\n", (1, 2, 3)),
        ("bubblewrap 0.10.0", (0, 10, 0)),
        ("", ()),
        ("bubblewrap unknown\n", ()),
    ],
)
def test_version(said: str, version: tuple[int, ...]) -> None:
    assert parse_version(said) == version


def test_a_fit_host() -> None:
    for facts in (DEBIAN, ROOT, DEBIAN._replace(machine="aarch64")):
        readiness = judge(facts)
        assert (readiness.ok, readiness.reason) == (True, "")
    assert ("bubblewrap", "0.8.0 (/usr/bin/bwrap)") in judge(DEBIAN).facts


@pytest.mark.parametrize(
    ("facts", "reason", "hint"),
    [
        pytest.param(
            DEBIAN._replace(bwrap=None), "not installed", "apt-get install bubblewrap", id="missing"
        ),
        pytest.param(DEBIAN._replace(version=(0, 7, 9)), "0.7.9 cannot forbid", "0.8.0 or newer", id="old"),
        pytest.param(DEBIAN._replace(version=()), "unknown cannot forbid", "0.8.0 or newer", id="no-version"),
        pytest.param(DEBIAN._replace(setuid=True), "setuid root", "chmod u-s /usr/bin/bwrap", id="setuid"),
        pytest.param(DEBIAN._replace(machine="riscv64"), "filter for riscv64", "x86_64", id="other-machine"),
        pytest.param(DEBIAN._replace(max_user_namespaces=0), "user namespaces", "sysctl", id="no-namespaces"),
    ],
)
def test_an_unfit_host_is_told_why_and_what_to_do(facts: host.HostFacts, reason: str, hint: str) -> None:
    readiness = judge(facts)
    assert not readiness.ok
    assert reason in readiness.reason
    assert hint in (readiness.hint or "")


def test_observing_asks_bubblewrap_for_its_version_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("")
    bwrap.chmod(0o4755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with fake_runner(((str(bwrap), "--version"), says("bubblewrap 0.11.2\n"))) as runner:
        facts = observe(runner)
    assert (facts.bwrap, facts.version, facts.setuid) == (str(bwrap), (0, 11, 2), True)
    assert facts.root == (os.geteuid() == 0)


def test_a_host_without_bubblewrap_is_observed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with fake_runner() as runner:
        assert not judge(observe(runner)).ok


V1_OWN = "4:memory:/user.slice/u\n3:pids:/\n2:cpu,cpuacct:/\n1:name=systemd:/init.scope\n0::/\n"
V1_MOUNTS = """cgroup {root}/memory cgroup rw,relatime,memory 0 0
cgroup {root}/pids cgroup rw,relatime,pids 0 0
cgroup {root}/cpu cgroup rw,relatime,cpu,cpuacct 0 0
tmpfs /tmp tmpfs rw 0 0
"""


@pytest.fixture
def writable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The paths that this process may write, as the code under test sees it, whoever runs the test."""
    paths: set[str] = set()
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) in paths)
    return paths


def test_groups_of_the_first_kind(tmp_path: Path, writable: set[str]) -> None:
    root = str(tmp_path)
    writable |= {f"{root}/memory/user.slice/u", f"{root}/pids", f"{root}/cpu"}
    assert sorted(_cgroup_parents(V1_OWN, V1_MOUNTS.format(root=root))) == [
        ("cpu", f"{root}/cpu"),
        ("memory", f"{root}/memory/user.slice/u"),
        ("pids", f"{root}/pids"),
    ]


def test_only_groups_that_can_be_written_count(tmp_path: Path, writable: set[str]) -> None:
    root = str(tmp_path)
    writable |= {f"{root}/pids"}
    assert _cgroup_parents(V1_OWN, V1_MOUNTS.format(root=root)) == [("pids", f"{root}/pids")]


def make_unified(root: Path, path: str, passed: str) -> Path:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.subtree_control").write_text(passed)
    return folder


UNIFIED = "cgroup2 {root} cgroup2 rw,nosuid,nodev,noexec,relatime,nsdelegate 0 0\n"
OWN = "0::/user.slice/user@1000.service/app.slice/term.scope\n"


def test_the_nearest_group_of_our_own_that_passes_controllers_on(tmp_path: Path, writable: set[str]) -> None:
    make_unified(tmp_path, "user.slice", "cpu memory pids\n")
    make_unified(tmp_path, "user.slice/user@1000.service", "cpu memory pids\n")
    app = make_unified(tmp_path, "user.slice/user@1000.service/app.slice", "memory pids\n")
    make_unified(tmp_path, "user.slice/user@1000.service/app.slice/term.scope", "")
    for folder in (app, app / "term.scope", app.parent):
        writable.add(str(folder / "cgroup.procs"))
    assert _cgroup_parents(OWN, UNIFIED.format(root=tmp_path)) == [("memory", str(app)), ("pids", str(app))]


def test_a_group_of_somebody_else_is_never_used(tmp_path: Path, writable: set[str]) -> None:
    """Our own must be writable all the way up to the one that is used: else a process cannot be moved there."""
    make_unified(tmp_path, "user.slice/user@1000.service", "cpu memory pids\n")
    user = tmp_path / "user.slice/user@1000.service"
    writable.add(str(user / "cgroup.procs"))
    assert _cgroup_parents(OWN, UNIFIED.format(root=tmp_path)) == []


def test_a_host_without_groups_has_none(writable: set[str]) -> None:
    assert _cgroup_parents("", "tmpfs /tmp tmpfs rw 0 0\n") == []
    assert _cgroup_parents("0::/\n", "") == []


@pytest.mark.parametrize(
    ("settings", "said", "mend"),
    [
        ({"apparmor_restrict_unprivileged_userns": "1\n"}, "", "AppArmor profile"),
        ({"unprivileged_userns_clone": "0\n"}, "", "unprivileged_userns_clone=1"),
        ({}, "No permissions to create new namespace", "forbids new user namespaces"),
        ({}, "setting up uid map: Permission denied", "forbids new user namespaces"),
        ({}, "something else", "doctor"),
    ],
)
def test_a_failed_start_is_explained(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str, mend: str
) -> None:
    monkeypatch.setattr(host, "_text", lambda path: settings.get(path.rpartition("/")[2], ""))
    assert mend in explain_failure(said)
