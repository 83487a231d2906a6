"""Ways out that go around the gate: there is no network to go by."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from claude_bottle.operations.launch import Launched
from tests.escape.conftest import Attack
from tests.support.listeners import Listeners, host_listeners
from tests.support.processes import eventually

NO_WAY = {"ENETUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL", "EACCES", "EPERM"}


@pytest.fixture(scope="module")
def host() -> Iterator[Listeners]:
    with host_listeners("claude-bottle-escape-test") as listeners:
        yield listeners


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("192.0.2.1", id="public"),
        pytest.param("169.254.169.254", id="cloud-metadata"),
        pytest.param("10.0.0.1", id="private"),
        pytest.param("172.17.0.1", id="docker-gateway"),
        pytest.param("100.64.0.1", id="carrier"),
        pytest.param("2001:db8::1", id="six"),
        pytest.param("fe80::1%lo", id="link-local"),
        pytest.param("::ffff:192.0.2.1", id="mapped"),
        pytest.param("64:ff9b::c000:201", id="nat64"),
    ],
)
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_no_address_can_be_reached(attack: Attack, address: str, kind: str) -> None:
    found = attack(
        """
        address, kind = sys.argv[1], getattr(socket, sys.argv[2])
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, kind)
        sock.settimeout(3)
        def send():
            name, _, scope = address.partition("%")
            where = (name, 443) if family == socket.AF_INET else (name, 443, 0, 1 if scope else 0)
            sock.connect(where)
            sock.send(b"out")
            sock.recv(1)
        report(outcome=tried(send))
        """,
        address,
        kind,
    )
    assert found["outcome"] in NO_WAY


def test_there_is_no_interface_but_its_own_loopback(attack: Attack) -> None:
    found = attack(
        """
        routes = open("/proc/net/route").read().splitlines()[1:]
        report(interfaces=[name for _, name in socket.if_nameindex()], routes=routes)
        """
    )
    assert found == {"interfaces": ["lo"], "routes": []}


def test_the_hosts_listeners_are_out_of_reach(attack: Attack, host: Listeners) -> None:
    found = attack(
        """
        ports, name = json.loads(sys.argv[1]), sys.argv[2]
        outcomes = {}
        for label, port in ports.items():
            for address in ("127.0.0.1", "0.0.0.0", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                kind = socket.SOCK_DGRAM if label.startswith("udp") else socket.SOCK_STREAM
                with socket.socket(family, kind) as sock:
                    sock.settimeout(2)
                    def send():
                        sock.connect((address, port))
                        if sock.getsockname() == sock.getpeername():  # a free port that met itself
                            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody else")
                        sock.send(name.encode())
                        sock.recv(1)
                    outcomes[f"{label} {address}"] = tried(send)
        for path in ("\\0" + name, "\\0/tmp/.X11-unix/X0", "\\0/com/ubuntu/upstart"):
            with socket.socket(socket.AF_UNIX) as sock:
                outcomes[path.replace("\\0", "@")] = tried(sock.connect, path)
        report(outcomes=outcomes)
        """,
        __import__("json").dumps(host.ports),
        host.abstract,
    )
    assert set(found["outcomes"].values()) <= NO_WAY, found
    assert host.reached == []
    with socket.create_connection(("127.0.0.1", host.ports["tcp-loopback"])) as own:
        own.send(host.abstract.encode())
        assert eventually(lambda: host.reached == ["tcp-loopback"]), "the test would have seen it"
    host.reached.clear()


def test_no_resolver_answers(attack: Attack) -> None:
    found = attack(
        """
        query = bytes.fromhex("12340100000100000000000006736563726574076578616d706c65036f72670000010001")
        outcomes = {}
        for resolver in ("127.0.0.1", "127.0.0.11", "127.0.0.53", "127.0.0.54", "192.0.2.53", "10.0.2.3"):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.settimeout(1)
                    def ask():
                        sock.connect((resolver, 53))
                        sock.send(query if kind == socket.SOCK_DGRAM else struct.pack(">H", len(query)) + query)
                        assert sock.recv(512)
                    outcomes[f"{resolver} {kind.name}"] = tried(ask)
        report(outcomes=outcomes)
        """
    )
    assert set(found["outcomes"].values()) <= NO_WAY, found


@pytest.mark.parametrize(
    "name", ["example.org", "secret-in-a-label.example.org", "localhost.example.org", "api.anthropic.com"]
)
def test_no_name_can_be_resolved(attack: Attack, name: str) -> None:
    """A name that cannot be looked up carries nothing out."""
    found = attack(
        """
        try:
            socket.getaddrinfo(sys.argv[1].encode(), 443)
            report(outcome="RESOLVED")
        except socket.gaierror:
            report(outcome="no")
        """,
        name,
    )
    assert found == {"outcome": "no"}


def test_no_other_kind_of_socket_exists(attack: Attack) -> None:
    found = attack(
        """
        outcomes = {}
        for family in range(64):
            for kind in (1, 2, 3, 5):
                outcome = tried(lambda: socket.socket(family, kind, 0).close())
                if outcome == "DONE":
                    outcomes.setdefault(str(family), []).append(kind)
        kinds = [kind for kind in range(32) if tried(lambda: socket.socket(16, 3, kind).close()) == "DONE"]
        pairs = [family for family in range(64) if tried(lambda: socket.socketpair(family, 1)) == "DONE"]
        report(outcomes=outcomes, netlink=kinds, pairs=pairs)
        """
    )
    assert set(found["outcomes"]) <= {"1", "2", "10", "16"}, "local, IP and route: no vsock, packet, alg"
    assert 3 not in found["outcomes"]["2"], "no raw IP"
    assert found["netlink"] == [0]
    assert found["pairs"] == [1]


def test_raw_packets_and_pings_are_refused(cell: Launched, attack: Attack) -> None:
    found = attack(
        """
        outcomes = [
            tried(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            tried(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
            tried(socket.socket, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
            tried(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 3),
        ]
        report(outcomes=outcomes)
        """
    )
    pings = found["outcomes"].pop(2)
    assert "DONE" not in found["outcomes"]
    assert pings != "DONE" or cell.metadata.runtime == "runsc", (
        "whose pings are for everybody, and go nowhere"
    )


def test_the_network_cannot_be_changed(attack: Attack) -> None:
    """An agent that could add an interface or a route would have to be asked where to."""
    found = attack(
        """
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        link = struct.pack("=IHHII", 48, 16, 0x605, 1, 0) + struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        link += struct.pack("=HH12s", 16, 3, b"dummy0\\0\\0\\0\\0\\0\\0")
        sock.send(link[:48].ljust(48, b"\\0"))
        answer = sock.recv(4096)
        kind, = struct.unpack_from("=H", answer, 4)
        code, = struct.unpack_from("=i", answer, 16)
        report(kind=kind, code=code, setting=tried(open, "/proc/sys/net/ipv4/ip_forward", "w"))
        """
    )
    assert (found["kind"], found["code"]) == (2, -1), "NLMSG_ERROR, EPERM"
    assert found["setting"] in ("EROFS", "EACCES", "EPERM", "ENOENT")


def test_a_client_that_ignores_the_proxy_gets_nowhere(cell: Launched) -> None:
    for options in (
        ["--noproxy", "*"],
        ["--noproxy", "*", "-4"],
        ["--noproxy", "*", "--connect-to", "::192.0.2.1:"],
    ):
        done = cell.bottle.exec(["curl", "-sS", "--max-time", "5", *options, "https://api.anthropic.com/"])
        assert done.status in (6, 7), "cannot resolve, or cannot connect"
        assert done.stdout == b""
