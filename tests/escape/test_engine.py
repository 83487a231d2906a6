"""What an engine brings along and other backends do not have: its networks, resolver and socket, and neighbours."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.operations.launch import Launched
from tests.escape.conftest import Attack
from tests.support.bottles import KEY, World, decisions, make_world, shell_inside
from tests.support.listeners import Listeners, host_listeners

pytestmark = pytest.mark.needs("docker")
NO_WAY = {"ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL", "EACCES", "EPERM"}
PRIVATE = "only-for-the-bottle-81c2"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("engine"), "docker", {"FOR_THE_BOTTLE": PRIVATE})


@pytest.fixture(scope="module")
def cell(world: World) -> Iterator[Launched]:
    """The one that is attacked is on the engine's own network, as most bottles' sidecars are."""
    world.declare({"env": {"GIVEN": "${FOR_THE_BOTTLE}"}})
    with world.bottle() as launched:
        yield launched


@pytest.fixture(scope="module")
def neighbour(world: World, cell: Launched) -> Iterator[Launched]:
    with world.bottle() as launched:
        yield launched


@pytest.fixture(scope="module")
def host() -> Iterator[Listeners]:
    with host_listeners("claude-bottle-engine-test") as listeners:
        yield listeners


def inspected(name: str) -> dict[str, Any]:
    done = subprocess.run(["docker", "container", "inspect", name], capture_output=True, check=True)
    return dict(json.loads(done.stdout)[0])


def containers_of(launched: Launched) -> tuple[str, str]:
    slug = launched.metadata.slug
    return f"claude-bottle-{slug}", f"claude-bottle-sidecars-{slug}"


def addresses(container: str) -> list[str]:
    networks = inspected(container)["NetworkSettings"]["Networks"].values()
    return [item[key] for item in networks for key in ("IPAddress", "Gateway") if item[key]]


REACH = """
outcomes = {}
for address in json.loads(sys.argv[1]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for port in json.loads(sys.argv[2]):
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
                sock.settimeout(2)
                def send():
                    sock.connect((address, port))
                    sock.send(b"secret")
                    assert sock.recv(1)
                outcomes[f"{address} {port} {kind.name}"] = tried(send)
report(outcomes=outcomes)
"""


def test_the_gateway_and_the_neighbours_are_out_of_reach(
    attack: Attack, cell: Launched, neighbour: Launched, host: Listeners
) -> None:
    own, others = addresses(containers_of(cell)[1]), addresses(containers_of(neighbour)[1])
    assert own
    assert others
    everywhere = host.ports["tcp-everywhere"]
    with socket.create_connection((own[1], everywhere), 5):
        pass  # the host can be reached at the gateway, by whoever has a way there
    found = attack(
        REACH, json.dumps([*own, *others, "fd00::1", "::1"]), json.dumps([53, 9099, 2375, 2376, everywhere])
    )
    reached = {
        name: outcome
        for name, outcome in found["outcomes"].items()
        if outcome not in NO_WAY and outcome != "TimeoutError"
    }
    assert reached == {}
    assert not [name for name, outcome in found["outcomes"].items() if outcome == "TimeoutError"], found


def test_no_name_of_the_engine_is_known(attack: Attack, cell: Launched, neighbour: Launched) -> None:
    names = [
        *containers_of(cell),
        *containers_of(neighbour),
        "host.docker.internal",
        "gateway.docker.internal",
    ]
    found = attack(
        """
        def known(name):
            try:
                return bool(socket.getaddrinfo(name.encode(), 80))
            except socket.gaierror:
                return False
        report(known=[name for name in json.loads(sys.argv[1]) if known(name)])
        """,
        json.dumps(names),
    )
    assert found["known"] == []


def test_the_gate_leads_to_none_of_them_either(attack: Attack, cell: Launched, neighbour: Launched) -> None:
    """By name or by address: the sidecars do have a network, and their policy is the only way into it."""
    targets = [
        *addresses(containers_of(cell)[1]),
        "host.docker.internal",
        "127.0.0.11",
        containers_of(neighbour)[1],
    ]
    before = len(decisions(cell))
    found = attack(
        """
        answers = {}
        for target in json.loads(sys.argv[1]):
            with socket.create_connection(("127.0.0.1", 9099), 5) as gate:
                gate.sendall(f"CONNECT {target}:443 HTTP/1.1\\r\\nHost: {target}:443\\r\\n\\r\\n".encode())
                answers[target] = gate.recv(100).decode().split()[1]
        report(answers=answers)
        """,
        json.dumps(targets),
    )
    assert set(found["answers"].values()) <= {"403", "400"}, found
    denied = [event for event in decisions(cell)[before:] if event.get("verdict") == "deny"]
    assert len(denied) == len(targets)


def test_the_engine_cannot_be_called(cell: Launched) -> None:
    sockets = shell_inside(
        cell.bottle, "find / -xdev -type s 2>/dev/null; ls /var/run/docker* /run/docker* /run/containerd*"
    )
    assert sockets.stdout == b""


def test_the_engines_records_hold_no_secret(cell: Launched) -> None:
    """Neither of the bottle nor of its sidecars: secrets came by pipe, into memory."""
    for name in containers_of(cell):
        record = json.dumps(inspected(name))
        assert KEY not in record
        assert PRIVATE not in record
        image = inspected(name)["Image"]
        for command in (["image", "inspect"], ["history", "--no-trunc", "--format", "{{json .}}"]):
            done = subprocess.run(["docker", *command, image], capture_output=True, text=True, check=True)
            assert KEY not in done.stdout
        logs = subprocess.run(["docker", "logs", name], capture_output=True, check=True)
        assert KEY.encode() not in logs.stdout + logs.stderr
        assert PRIVATE.encode() not in logs.stdout + logs.stderr
    assert shell_inside(cell.bottle, "echo $GIVEN").text.strip() == PRIVATE


def test_both_containers_are_as_hard_as_they_are_meant_to_be(cell: Launched) -> None:
    agent, sidecars = (inspected(name) for name in containers_of(cell))
    for found in (agent, sidecars):
        config = found["HostConfig"]
        assert (config["Privileged"], config["ReadonlyRootfs"], config["CapDrop"]) == (False, True, ["ALL"])
        assert (config["CapAdd"], config["PidMode"], config["IpcMode"]) == (None, "", "private")
        assert "no-new-privileges" in config["SecurityOpt"]
        assert not config["PortBindings"]
        assert not config["Devices"]
        assert not [mount for mount in found["Mounts"] if mount["Source"].endswith(".sock")]
        assert found["Config"]["User"] not in ("", "0", "root", "0:0")
    assert agent["HostConfig"]["NetworkMode"] == "none"
    assert agent["HostConfig"]["PidsLimit"] > 0


def test_whoever_uses_the_same_network_finds_nothing_open(cell: Launched, tmp_path: Path) -> None:
    """The sidecars listen inside the bottle and on files, never on their own network."""
    own = addresses(containers_of(cell)[1])[0]
    for port in (9098, 9099, 9901, 10000, 80, 443):
        with pytest.raises(OSError), socket.create_connection((own, port), 2):
            pass
