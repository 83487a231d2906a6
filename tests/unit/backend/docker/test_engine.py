"""What is learnt of an engine, and what it is judged by: a doubt is a no, and so is an engine that does not answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend.docker.api import EngineError, SystemEngine
from claude_bottle.backend.docker.backend import DockerBackend
from claude_bottle.backend.docker.bodies import Names
from claude_bottle.backend.docker.engine import (
    EngineFacts,
    docker,
    facts_from,
    find,
    has_client,
    judge,
    observe,
    unfit_client,
)
from claude_bottle.backend.docker.plan import plan_bottle
from claude_bottle.errors import BackendMissingError, BottleError, UsageError
from claude_bottle.manifest.model import Limits
from claude_bottle.proc import Command, ProgramMissing, Result, Runner, TimeOver, environment_for
from tests.support.fake_engine import Answer, FakeEngine, fake_engine, refuses
from tests.support.fake_runner import fake_runner, says
from tests.support.plans import GIB, request
from tests.unit.backend.docker.test_plan import plan

UNIX = "unix:///var/run/docker.sock"
INFO: dict[str, Any] = json.loads("""{
    "ServerVersion": "20.10.24+dfsg1", "Architecture": "x86_64", "OSType": "linux", "Name": "here",
    "OperatingSystem": "Debian GNU/Linux 12 (bookworm)", "Runtimes": {"runsc": {}, "runc": {}},
    "KernelVersion": "6.1.0-35-amd64",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default"],
    "MemoryLimit": true, "PidsLimit": true, "CpuCfsQuota": true
}""")
ASKED: tuple[object, ...] = ("GET", "/info", {}, None)


def test_a_fit_engine_of_this_host() -> None:
    facts = facts_from(INFO, UNIX, "here")
    assert facts[:4] == (UNIX, "20.10.24+dfsg1", "x86_64", "Debian GNU/Linux 12 (bookworm)")
    assert (facts.local, facts.rootless, facts.seccomp, facts.limits) == (True, False, True, True)
    assert (facts.gvisor, facts.release, facts.fault) == ((), "6.1.0-35-amd64", "")
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


# Asking it


def seen(answer: Answer, endpoint: str = UNIX) -> EngineFacts:
    with fake_engine((ASKED, answer)) as asked:
        return observe(asked, endpoint)  # type: ignore[arg-type]


def test_an_engine_behind_a_socket_of_this_host_is_asked_once() -> None:
    info = {**INFO, "Name": os.uname().nodename}
    assert seen(info).local
    assert judge(seen(info)).ok
    assert not seen({**INFO, "Name": "there"}).local
    assert not seen(info, "tcp://127.0.0.1:2375").local


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(refuses(0, "the engine does not answer: refused"), "does not answer", id="refused"),
        pytest.param(refuses(500, "no"), "no", id="error"),
        pytest.param(b"json\n", "form that is not known", id="no-json"),
        pytest.param(b"", "form that is not known", id="nothing"),
        pytest.param(b"[]", "form that is not known", id="list"),
        pytest.param(b"null", "form that is not known", id="null"),
        pytest.param(b"{}", "older than 20.10", id="no-word"),
        pytest.param(b"[" * 100_000, "form that is not known", id="nested"),
        pytest.param({**INFO, "SecurityOptions": 7}, "form that is not known", id="odd-options"),
        pytest.param({**INFO, "Runtimes": 7}, "form that is not known", id="odd-runtimes"),
        pytest.param({**INFO, "ServerVersion": ["20", "10"]}, "older than 20.10", id="odd-version"),
    ],
)
def test_one_that_does_not_describe_itself_is_not_fit(answer: Answer, reason: str) -> None:
    readiness = judge(seen(answer))
    assert not readiness.ok
    assert reason in readiness.reason


def test_one_that_does_not_answer_is_asked_nothing_more_and_there_is_advice() -> None:
    with fake_engine(headers=EngineError("the engine does not answer: refused")) as asked:
        readiness = judge(observe(asked, UNIX))  # type: ignore[arg-type]
    assert (readiness.ok, readiness.reason) == (False, "the engine does not answer: refused")
    assert "start Docker" in (readiness.hint or "")


def test_podman_is_known_by_what_its_engine_says_of_itself() -> None:
    with fake_engine(headers={"api-version": "1.41", "libpod-api-version": "4.3.1"}) as asked:
        readiness = judge(observe(asked, UNIX))  # type: ignore[arg-type]
    assert not readiness.ok
    assert "podman" in readiness.reason


# The client


@pytest.fixture
def operator(tmp_path: Path) -> dict[str, str]:
    """The environment of one who has a client."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.touch(0o755)
    (tmp_path / ".docker").mkdir()
    return {"PATH": str(program.parent), "HOME": str(tmp_path)}


VERSION = ("docker", "--version")


def test_without_a_client_nothing_is_run(tmp_path: Path) -> None:
    nobody = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    assert not has_client(nobody)
    with fake_runner() as runner:
        readiness = DockerBackend(runner, nobody).check()
    assert (readiness.ok, readiness.reason) == (False, "docker is not installed")


def fails(error: Exception) -> Any:
    def answer(_: Command) -> Result:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        pytest.param(says("Docker version 20.10.24+dfsg1, build 297e128\n"), None, id="docker"),
        pytest.param(says("podman version 4.3.1\n"), "podman", id="podman"),
        pytest.param(says("Emulating docker using Podman.\n"), "podman", id="emulated"),
        pytest.param(fails(TimeOver("docker did not end within 10 s")), "within 10 s", id="time"),
        pytest.param(fails(ProgramMissing("docker was not found")), "was not found", id="gone"),
    ],
)
def test_a_client_that_is_another_or_does_not_run_is_of_no_use(answer: Any, fault: str | None) -> None:
    with fake_runner((VERSION, answer)) as runner:
        lacking = unfit_client(runner)
    assert (lacking is None) == (fault is None)
    if lacking is not None:
        assert fault is not None
        assert fault in judge(lacking).reason
        assert not judge(lacking).ok


def asking(runner: Runner, environment: dict[str, str], engine: FakeEngine) -> DockerBackend:
    backend = DockerBackend(runner, environment)
    backend.__dict__["_found"] = (UNIX, engine)
    return backend


def test_where_the_engine_answers_its_client_is_not_asked(operator: dict[str, str]) -> None:
    with fake_runner() as runner, fake_engine((ASKED, INFO)) as asked:
        assert asking(runner, operator, asked).check().ok


def test_where_the_engine_does_not_answer_the_client_may_say_why(operator: dict[str, str]) -> None:
    fault = EngineError("the engine does not answer: refused")
    for said, reason in (("podman version 4.3.1\n", "podman"), ("Docker version 20.10\n", "refused")):
        with fake_runner((VERSION, says(said))) as runner, fake_engine(headers=fault) as asked:
            readiness = asking(runner, operator, asked).check()
        assert not readiness.ok
        assert reason in readiness.reason


def test_a_client_that_is_anothers_builds_nothing(operator: dict[str, str]) -> None:
    image = (("GET", "/images/lacking/json"), refuses(404))
    with fake_runner((VERSION, says("podman version 4.3.1\n"))) as runner, fake_engine(image) as asked:
        backend = asking(runner, operator, asked)
        with pytest.raises(BackendMissingError, match=r"no image can be built: .*podman"):
            backend.build(plan(request(), missing=("lacking",)), lambda *_: None)


# Where it is


def inspected(name: str, answer: Result) -> tuple[tuple[object, ...], Result]:
    return ("docker", "context", "inspect", name, "--format", "{{.Endpoints.docker.Host}}"), answer


def endpoint(environment: dict[str, str], *expected: tuple[tuple[object, ...], Result]) -> str:
    with fake_runner(*expected) as runner:
        where, found = find(runner, environment)
    assert isinstance(found, SystemEngine)
    return where


def test_the_engine_is_found_as_the_client_finds_it(operator: dict[str, str], tmp_path: Path) -> None:
    """$DOCKER_HOST, then $DOCKER_CONTEXT, then what the settings name."""
    assert endpoint(operator) == UNIX
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "config.json").write_text('{"currentContext": "third", "auths": {}}')
    environment = {**operator, "DOCKER_CONFIG": str(settings)}
    third = inspected("third", says("ssh://far.example.org\n"))
    assert endpoint(environment, third) == "ssh://far.example.org"
    environment["DOCKER_CONTEXT"] = "second"
    second = inspected("second", says("tcp://192.0.2.2:2376\n"))
    assert endpoint(environment, second) == "tcp://192.0.2.2:2376"
    chosen = {**environment, "DOCKER_HOST": "tcp://192.0.2.1:2375"}
    assert endpoint(chosen) == "tcp://192.0.2.1:2375"
    assert endpoint({**environment, "DOCKER_CONTEXT": "default"}) == UNIX


def test_a_context_that_cannot_be_read_is_no_engine_of_this_host(operator: dict[str, str]) -> None:
    environment = {**operator, "DOCKER_CONTEXT": "cho\x1bsen"}
    with pytest.raises(BottleError, match=r"cho\\x1bsen cannot be read: context not found"):
        endpoint(environment, inspected("cho\x1bsen", says("\n", 1, "context not found")))


@pytest.mark.parametrize("settings", ["", "{", "[]", '"text"', "\ufffe\0", "[" * 100_000, None])
def test_settings_that_cannot_be_read_are_a_fault(
    operator: dict[str, str], tmp_path: Path, settings: str | None
) -> None:
    path = tmp_path / ".docker" / "config.json"
    path.mkdir() if settings is None else path.write_text(settings)
    with pytest.raises(BottleError, match=r"config\.json cannot be read"):
        endpoint(operator)


def test_without_a_home_nothing_is_read_below_the_current_folder(
    operator: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "of-the-repository"}')
    monkeypatch.chdir(tmp_path)
    assert endpoint({"PATH": operator["PATH"]}) == UNIX


def test_the_client_sees_its_own_variables_and_no_secret() -> None:
    host = {"PATH": "/bin", "DOCKER_HOST": UNIX, "SSH_AUTH_SOCK": "/s", "ANTHROPIC_API_KEY": "k"}
    kept = environment_for(docker("info"), host)
    assert kept == {"PATH": "/bin", "DOCKER_HOST": UNIX, "SSH_AUTH_SOCK": "/s"}
