"""What is learnt of an engine, and what it is judged by: a doubt is a no, and a dead socket is asked nothing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend.docker import engine
from claude_bottle.backend.docker.argv import Names
from claude_bottle.backend.docker.engine import docker, facts_from, judge, observe
from claude_bottle.backend.docker.plan import plan_bottle
from claude_bottle.errors import UsageError
from claude_bottle.manifest.model import Limits
from claude_bottle.proc import Command, Result, TimeOver, environment_for
from tests.support.fake_runner import fake_runner, says
from tests.support.plans import GIB, request

UNIX = "unix:///var/run/docker.sock"
INFO: dict[str, Any] = json.loads("""{
    "ServerVersion": "20.10.24+dfsg1", "Architecture": "x86_64", "OSType": "linux", "Name": "here",
    "OperatingSystem": "Debian GNU/Linux 12 (bookworm)", "Runtimes": {"runsc": {}, "runc": {}},
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
    "MemoryLimit": true, "PidsLimit": true, "CpuCfsQuota": true
}""")
# What clients say where no engine answers: the older with status 0, the newer with status 1.
REFUSED = "Cannot connect to the Docker daemon at tcp://192.0.2.1:2375. Is the docker daemon running?"
SILENT_OLD = says(json.dumps({"ServerErrors": [REFUSED], "ClientInfo": {"Debug": False}}))
SILENT_NEW = says(json.dumps({"ServerVersion": "", "ClientInfo": {}}), status=1, complaint=REFUSED + "\n")
PODMAN = {"host": {"arch": "amd64", "os": "linux"}, "store": {}, "version": {"Version": "4.3.1"}}
ASKED = ("docker", "info", "--format", "{{json .}}")


def test_a_fit_engine_of_this_host() -> None:
    facts = facts_from(INFO, UNIX, "here")
    assert facts[:4] == (UNIX, "20.10.24+dfsg1", "x86_64", "Debian GNU/Linux 12 (bookworm)")
    assert (facts.local, facts.rootless, facts.seccomp, facts.limits) == (True, False, True, True)
    assert (facts.runtimes, facts.fault) == (("runc", "runsc"), "")
    assert judge(facts).ok
    assert "this host's, " in dict(judge(facts).facts)["docker"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"ServerVersion": "19.03.15"}, "older than 20.10", id="old"),
        pytest.param({"ServerVersion": "20.9.9"}, "older than 20.10", id="a-little-old"),
        pytest.param({"ServerVersion": "20"}, "older than 20.10", id="half-a-version"),
        pytest.param({"ServerVersion": "unknown"}, "older than 20.10", id="no-number"),
        pytest.param({"ServerVersion": "unknown.99"}, "", id="half-a-number"),
        pytest.param({"OSType": "windows"}, "Windows containers", id="windows"),
        pytest.param({"OSType": "freebsd"}, "", id="another-system"),
        pytest.param({"Architecture": "riscv64"}, "processor", id="processor"),
        pytest.param({"SecurityOptions": ["name=apparmor"]}, "system call filters", id="no-filter"),
    ],
)
def test_an_unfit_engine_is_told_why(change: dict[str, Any], reason: str) -> None:
    readiness = judge(facts_from({**INFO, **change}, UNIX, "here"))
    assert not readiness.ok
    assert reason in readiness.reason


@pytest.mark.parametrize("name", ["ServerVersion", "Architecture", "OSType", "SecurityOptions"])
def test_what_is_needed_and_not_said_makes_it_unfit(name: str) -> None:
    said = {key: value for key, value in INFO.items() if key != name}
    assert not judge(facts_from(said, UNIX, "here")).ok


def test_newer_engines_and_both_processors_by_either_name_are_fit() -> None:
    for version in ("20.10.0", "23.0.1", "28.2.2", "29.0.0-rc.1"):
        assert judge(facts_from({**INFO, "ServerVersion": version}, UNIX, "here")).ok, version
    names = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
    assert {name: facts_from({**INFO, "Architecture": name}, UNIX, "here").machine for name in names} == names


@pytest.mark.parametrize(
    ("change", "endpoint"),
    [
        pytest.param({"OperatingSystem": "Docker Desktop"}, UNIX, id="desktop"),
        pytest.param({"SecurityOptions": ["name=seccomp", "name=rootless"]}, UNIX, id="rootless"),
        pytest.param({"SecurityOptions": ["name=seccomp", "name=userns"]}, UNIX, id="other-owners"),
        pytest.param({"Name": "there"}, UNIX, id="another-host-behind-a-socket"),
        pytest.param({"Name": None}, UNIX, id="no-name"),
        pytest.param({}, "tcp://127.0.0.1:2375", id="tcp"),
        pytest.param({}, "ssh://operator@example.org", id="ssh"),
    ],
)
def test_an_engine_that_may_see_other_files_is_not_local(change: dict[str, Any], endpoint: str) -> None:
    facts = facts_from({**INFO, **change}, endpoint, "here")
    assert not facts.local
    assert judge(facts).ok
    assert "not this host's: files are copied" in dict(judge(facts).facts)["docker"]


def test_a_limit_that_the_engine_would_discard_is_refused() -> None:
    """It only warns, and runs the container without: then the plan must not say that the limit holds."""
    for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota"):
        for said in (False, None, "true", 1):
            assert not facts_from({**INFO, name: said}, UNIX, "here").limits, (name, said)
    if judge(facts := facts_from({**INFO, "MemoryLimit": False}, UNIX, "here")).ok:
        asked = request(limits=Limits(memory=GIB, pids=100))
        with pytest.raises(UsageError):
            plan_bottle(asked, facts, Names("reviewer-00000", "0"), ("a", "b"), (), 1000)


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of one who has a client, and no engine where it would look for one."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.touch(0o755)
    (tmp_path / ".docker").mkdir()
    monkeypatch.setattr(engine, "_DEFAULT_ENDPOINT", f"unix://{tmp_path}/default.sock")
    return {"PATH": str(program.parent), "HOME": str(tmp_path)}


def remote(operator: dict[str, str]) -> dict[str, str]:
    return {**operator, "DOCKER_HOST": "tcp://192.0.2.1:2375"}


def test_an_engine_behind_a_socket_is_asked_once(operator: dict[str, str], tmp_path: Path) -> None:
    info = {**INFO, "Name": os.uname().nodename}
    with socket.socket(socket.AF_UNIX) as server, fake_runner((ASKED, says(json.dumps(info)))) as runner:
        server.bind(f"{tmp_path}/default.sock")
        server.listen()
        facts = observe(runner, operator)
    assert facts.local
    assert judge(facts).ok


def test_without_a_client_nothing_is_run(tmp_path: Path) -> None:
    with fake_runner() as runner:
        readiness = judge(observe(runner, {"PATH": str(tmp_path), "HOME": str(tmp_path)}))
    assert (readiness.ok, readiness.reason) == (False, "docker is not installed")


@pytest.mark.parametrize("kind", ["nothing", "file", "left behind", "no path", "too long", "closed"])
def test_a_socket_where_nothing_listens_is_known_without_a_command(
    operator: dict[str, str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "d.sock"
    if kind == "file":
        path.touch()
    if kind == "left behind":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    chosen = {"no path": "", "too long": f"/{'a' * 200}", "closed": f"{tmp_path}/default.sock/x"}
    environment = {**operator, "DOCKER_HOST": f"unix://{chosen.get(kind, path)}"}
    with fake_runner() as runner:
        readiness = judge(observe(runner, environment))
    assert not readiness.ok
    assert "does not answer" in readiness.reason
    assert "start Docker" in (readiness.hint or "")


def fails(error: Exception) -> Any:
    def answer(_: Command) -> Result:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(SILENT_OLD, "Cannot connect", id="old-client"),
        pytest.param(SILENT_NEW, "Cannot connect", id="new-client"),
        pytest.param(says(json.dumps(INFO), status=1, complaint="half an answer"), "half", id="status"),
        pytest.param(says(json.dumps(PODMAN)), "podman", id="podman"),
        pytest.param(says("json\n"), "cannot be asked", id="no-json"),
        pytest.param(says(""), "cannot be asked", id="nothing"),
        pytest.param(says("[]"), "does not answer", id="list"),
        pytest.param(says('{"ServerErrors": [], "ServerVersion": ""}'), "does not answer", id="no-version"),
        pytest.param(says('{"ServerErrors": ["\\u001b[2J"]}'), "\\x1b[2J", id="escapes"),
        pytest.param(fails(TimeOver("docker did not end within 10 s")), "within 10 s", id="time"),
        pytest.param(says("[" * 100_000), "", id="nested"),
        pytest.param(says(json.dumps({**INFO, "SecurityOptions": 7})), "", id="odd-options"),
    ],
)
def test_one_that_does_not_answer_is_not_fit(operator: dict[str, str], answer: Any, reason: str) -> None:
    with fake_runner((ASKED, answer)) as runner:
        readiness = judge(observe(runner, remote(operator)))
    assert not readiness.ok
    assert reason in readiness.reason


def inspected(name: str, answer: Result) -> tuple[tuple[object, ...], Result]:
    return ("docker", "context", "inspect", name, "--format", "{{.Endpoints.docker.Host}}"), answer


def test_the_engine_is_found_as_the_client_finds_it(operator: dict[str, str], tmp_path: Path) -> None:
    """$DOCKER_HOST, then $DOCKER_CONTEXT, then what the settings name."""
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "config.json").write_text('{"currentContext": "third", "auths": {}}')
    environment = {**operator, "DOCKER_CONFIG": str(settings)}
    info = (ASKED, says(json.dumps(INFO)))
    with fake_runner(inspected("third", says("ssh://far.example.org\n")), info) as runner:
        assert observe(runner, environment).endpoint == "ssh://far.example.org"
    environment["DOCKER_CONTEXT"] = "second"
    with fake_runner(inspected("second", says("tcp://192.0.2.2:2376\n")), info) as runner:
        assert observe(runner, environment).endpoint == "tcp://192.0.2.2:2376"
    with fake_runner(info) as runner:
        assert observe(runner, remote(environment)).endpoint == "tcp://192.0.2.1:2375"
    with fake_runner() as runner:
        assert "default.sock" in observe(runner, {**environment, "DOCKER_CONTEXT": "default"}).fault


def test_a_context_may_be_dead_or_unknown(operator: dict[str, str], tmp_path: Path) -> None:
    environment = {**operator, "DOCKER_CONTEXT": "chosen"}
    with fake_runner(inspected("chosen", says(f"unix://{tmp_path}/desktop.sock\n"))) as runner:
        assert "desktop.sock" in observe(runner, environment).fault
    info = (ASKED, says(json.dumps({**INFO, "Name": os.uname().nodename})))
    with fake_runner(inspected("chosen", says("\n", 1, "context not found")), info) as runner:
        assert not observe(runner, environment).local


@pytest.mark.parametrize("settings", ["", "{", "[]", '"text"', "\ufffe\0", "[" * 100_000, None])
def test_settings_that_cannot_be_read_are_a_fault(
    operator: dict[str, str], tmp_path: Path, settings: str | None
) -> None:
    path = tmp_path / ".docker" / "config.json"
    path.mkdir() if settings is None else path.write_text(settings)
    with fake_runner() as runner:
        assert "config.json cannot be read" in observe(runner, operator).fault


def test_without_a_home_nothing_is_read_below_the_current_folder(
    operator: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "of-the-repository"}')
    monkeypatch.chdir(tmp_path)
    with fake_runner() as runner:
        assert observe(runner, {"PATH": operator["PATH"]}).fault


def test_the_client_sees_its_own_variables_and_no_secret() -> None:
    host = {"PATH": "/bin", "DOCKER_HOST": UNIX, "SSH_AUTH_SOCK": "/s", "ANTHROPIC_API_KEY": "k"}
    kept = environment_for(docker("info"), host)
    assert kept == {"PATH": "/bin", "DOCKER_HOST": UNIX, "SSH_AUTH_SOCK": "/s"}
