"""Which backends there are, and which one is taken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import claude_bottle.backend as registry
from claude_bottle.backend import (
    enumerate_active_agents,
    get_bottle_backend,
    has_backend,
    known_backend_names,
    load_backend,
)
from claude_bottle.backend.base import BottleBackend, Readiness
from claude_bottle.errors import BackendMissingError, UsageError


@dataclass(frozen=True)
class Pretended:
    """A backend that is or is not usable; nothing else of it is asked for here."""

    name: str
    ok: bool

    def check(self) -> Readiness:
        return Readiness(
            self.ok, "" if self.ok else f"{self.name} is not there", None if self.ok else "get it"
        )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """name -> usable; the three backends that the project knows of."""
    usable = {"docker": True, "bubblewrap": True, "smolmachines": True}
    monkeypatch.setattr(registry, "_BACKENDS", dict.fromkeys(usable, ""))
    monkeypatch.setattr(registry, "_load", lambda name: Pretended(name, usable[name]))
    return usable


def test_every_known_backend_can_be_loaded_and_bears_its_name() -> None:
    names = known_backend_names()
    assert "bubblewrap" in names
    for name in names:
        backend = load_backend(name)
        assert isinstance(backend, BottleBackend)
        assert backend.name == name


def test_every_backend_says_whether_it_can_be_used_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in known_backend_names():
        readiness = load_backend(name).check()
        assert not readiness.ok
        assert readiness.reason
        assert not has_backend(name)


@pytest.mark.parametrize(
    ("name", "environment", "configured", "taken"),
    [
        ("smolmachines", {"CLAUDE_BOTTLE_BACKEND": "bubblewrap"}, "docker", "smolmachines"),
        (None, {"CLAUDE_BOTTLE_BACKEND": "bubblewrap"}, "smolmachines", "bubblewrap"),
        (None, {"CLAUDE_BOTTLE_BACKEND": ""}, "smolmachines", "smolmachines"),
        (None, {}, "smolmachines", "smolmachines"),
        (None, {}, None, "docker"),
    ],
)
def test_the_argument_then_the_environment_then_the_setting_then_docker(
    host: dict[str, bool], name: str | None, environment: dict[str, str], configured: str | None, taken: str
) -> None:
    assert get_bottle_backend(name, environment, configured).name == taken


def test_bubblewrap_is_taken_where_docker_is_not_there(host: dict[str, bool]) -> None:
    host["docker"] = False
    assert get_bottle_backend(environment={}).name == "bubblewrap"


def test_the_last_of_the_preferred_says_why_there_is_none(host: dict[str, bool]) -> None:
    host.update(docker=False, bubblewrap=False)
    with pytest.raises(BackendMissingError, match="bubblewrap is not there") as caught:
        get_bottle_backend(environment={})
    assert caught.value.hint == "get it"


def test_what_was_asked_for_is_never_replaced_by_another(host: dict[str, bool]) -> None:
    host["smolmachines"] = False
    with pytest.raises(BackendMissingError, match="smolmachines"):
        get_bottle_backend("smolmachines", {})
    with pytest.raises(BackendMissingError, match="smolmachines"):
        get_bottle_backend(None, {"CLAUDE_BOTTLE_BACKEND": "smolmachines"})


@pytest.mark.parametrize("where", ["argument", "environment", "setting"])
def test_an_unknown_name_is_a_usage_error_that_names_the_known(host: dict[str, bool], where: str) -> None:
    environment = {"CLAUDE_BOTTLE_BACKEND": "podman"} if where == "environment" else {}
    with pytest.raises(UsageError, match="podman") as caught:
        get_bottle_backend(
            "podman" if where == "argument" else None, environment, "podman" if where == "setting" else None
        )
    assert "docker, bubblewrap, smolmachines" in str(caught.value.hint)


def test_has_backend(host: dict[str, bool]) -> None:
    host["docker"] = False
    assert (has_backend("docker"), has_backend("bubblewrap"), has_backend("podman")) == (False, True, False)


def test_a_recorded_name_that_this_version_does_not_know() -> None:
    with pytest.raises(BackendMissingError, match="knows no backend 'podman'"):
        load_backend("podman")


def test_nothing_runs_in_an_empty_state_folder(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert enumerate_active_agents(tmp_path / "state") == []
    assert enumerate_active_agents(tmp_path / "absent" / "state") == []
