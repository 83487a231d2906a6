"""gVisor: asked for, it is there as a whole, or there is no plan; and then all that differs is what must."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_bottle.backend.docker import gvisor
from claude_bottle.backend.docker.engine import EngineFacts
from claude_bottle.errors import UsageError
from claude_bottle.manifest.model import RUNTIMES
from tests.support.plans import request
from tests.unit.backend.docker.test_plan import GVISOR, LOCAL, REMOTE, plan

ASKED = request()._replace(runtime="runsc")
WHOLE = ["--host-uds=open", "--oci-seccomp"]


def test_what_a_manifest_may_ask_for_is_what_is_done() -> None:
    assert RUNTIMES == (gvisor.RUNTIME,)


@pytest.mark.parametrize(
    ("runtimes", "found"),
    [
        pytest.param({"runsc": {"path": "runsc", "runtimeArgs": WHOLE}}, tuple(WHOLE), id="there"),
        pytest.param({"runsc": {"path": "runsc"}}, (), id="bare"),
        pytest.param({"runsc": {"runtimeArgs": "--host-uds=open"}}, (), id="text"),
        pytest.param({"runsc": None, "runc": {}}, None, id="nothing"),
        pytest.param({"runsc-other": {"runtimeArgs": WHOLE}}, None, id="another"),
        pytest.param({}, None, id="none"),
    ],
)
def test_what_an_engine_says_of_it(runtimes: Any, found: tuple[str, ...] | None) -> None:
    assert gvisor.arguments(runtimes) == found


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param(LOCAL, "no runtime runsc", id="not-there"),
        pytest.param(GVISOR._replace(gvisor=()), "without --host-uds=open and --oci-seccomp", id="bare"),
        pytest.param(GVISOR._replace(gvisor=("--host-uds=open",)), "without --oci-seccomp", id="no-filter"),
        pytest.param(
            GVISOR._replace(gvisor=("--host-uds=create", "--oci-seccomp")), "without --host-uds", id="other"
        ),
        pytest.param(GVISOR._replace(release=""), "which kernel", id="unproved"),
    ],
)
def test_what_is_not_there_as_a_whole_is_refused_with_what_to_do(facts: EngineFacts, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refused:
        plan(ASKED, facts)
    assert refused.value.hint is not None
    assert "runsc install -- --host-uds=open --oci-seccomp" in refused.value.hint


def test_who_does_not_ask_gets_none() -> None:
    body = plan(request(), GVISOR).agent_body("")
    assert "Runtime" not in body["HostConfig"]
    assert "sidecars.ferry" not in json.dumps(body)


@pytest.mark.parametrize("facts", [GVISOR, REMOTE._replace(gvisor=tuple(WHOLE))], ids=["local", "remote"])
def test_a_bottle_with_it_is_as_bare_as_any_other(facts: EngineFacts) -> None:
    """But for its runtime, and for what opens its loopback: that is told which kernel it shall not be on."""
    found, without = plan(ASKED, facts), plan(request(), facts)
    body, plain = found.agent_body("FILTER"), without.agent_body("FILTER")
    assert body["HostConfig"].pop("Runtime") == "runsc"
    usual = [word.replace("sidecars.handing", "sidecars.ferry") for word in plain.pop("Cmd")]
    assert body.pop("Cmd") == [*usual, facts.release]
    assert body == plain
    assert found.sidecars_body() == without.sidecars_body(), "they need no gVisor"


def test_the_preflight_says_so() -> None:
    found = plan(ASKED, GVISOR)
    assert "gVisor" in found.protections()[0]
    assert not [line for line in found.caveats() if "one kernel" in line]
    assert [line for line in plan(request(), GVISOR).caveats() if "one kernel" in line]


@pytest.mark.parametrize("runtime", [None, "runsc"])
def test_a_port_more_is_opened_where_the_agent_may_propose_changes(runtime: str | None) -> None:
    def opening(*services: str) -> list[str]:
        asked = request()._replace(runtime=runtime, services=services)
        return list(plan(asked, GVISOR).agent_body("{}")["Cmd"])

    plain, supervised = opening("egress", "firewall"), opening("egress", "firewall", "supervise")
    assert supervised == [*plain, "9100"]
