"""Every part that may fail fails closed: the log, Envoy, the dial, the policy itself."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pytest

from claude_bottle.policy.model import Route

Rig = Any  # the class is in conftest.py, which cannot be imported


def stage_is(stage: str) -> Any:
    def fails(event: Mapping[str, object]) -> bool:
        return event["stage"] == stage

    return fails


@pytest.mark.parametrize("target", ["raw.example.org:443", "seen.example.org:443"])
def test_what_cannot_be_recorded_does_not_pass(rig: Rig, target: str) -> None:
    rig.fail_record = stage_is("egress")
    with rig.tunnel(target) as sock:
        sock.sendall(rig.hello(target.partition(":")[0]))
        assert rig.read_all(sock) == b""
    if target.startswith("raw"):
        with rig.accept_raw() as peer:
            assert rig.read_all(peer) == b""
    assert rig.envoy.spoken_to == 0
    rig.wait_until(lambda: len(rig.crashes) == 1, "the failure to be reported")
    rig.crashes.clear()


def test_a_dial_that_cannot_be_recorded_is_hung_up(rig: Rig) -> None:
    rig.fail_record = stage_is("firewall")
    reply = rig.refused(rig.head("raw.example.org:443"))
    assert (reply.status, reply.error["reason"]) == (502, "log-failed")
    assert "disk" not in reply.body.decode()
    with rig.accept_raw() as peer:
        assert rig.read_all(peer) == b""


def test_a_refusal_that_cannot_be_recorded_is_still_a_refusal(rig: Rig) -> None:
    rig.fail_record = lambda event: True
    assert rig.refused(rig.head("evil.test:443")).status == 403
    rig.wait_until(lambda: len(rig.crashes) == 1, "the failure to be reported")
    rig.crashes.clear()


def test_envoy_is_down(rig: Rig) -> None:
    rig.envoy.close()
    rig.envoy.listener = socket.socket()
    reply = rig.refused(rig.head("seen.example.org:443"))
    assert (reply.status, reply.error["reason"]) == (502, "stage-down")
    (rig.folder / "envoy.sock").unlink()
    assert rig.refused(rig.head("seen.example.org:443")).error["reason"] == "stage-down"
    rig.envoy.listener.listen()


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (["127.0.0.1"], 403, "private-address"),
        (["10.1.2.3", "::1"], 403, "private-address"),
        (["169.254.169.254"], 403, "private-address"),
        (["::ffff:127.0.0.1"], 403, "private-address"),
        (["::ffff:93.184.216.34"], 403, "private-address"),
        (["64:ff9b::7f00:1"], 403, "private-address"),
        (["not an address"], 502, "dns-failure"),
        ([], 502, "dns-failure"),
        (["93.184.216.36"], 502, "connect-failed"),
    ],
)
def test_why_an_allowed_host_was_not_dialled(rig: Rig, answer: list[str], status: int, reason: str) -> None:
    rig.world.answers["odd.example.org"] = [answer]
    reply = rig.refused(rig.head("odd.example.org:443"))
    assert (reply.status, reply.error["reason"]) == (status, reason)
    assert {line["stage"]: line["reason"] for line in rig.events} == {"firewall": reason, "egress": reason}
    assert all(address == "93.184.216.36" for address, _ in rig.world.dialled)


def test_the_resolver_is_asked_once_and_its_first_answer_is_what_counts(rig: Rig) -> None:
    rig.world.answers["echo.example.org"] = [["93.184.216.34", "10.0.0.1"], ["127.0.0.1"]]
    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream)
    assert rig.world.asked == ["echo.example.org"]
    assert rig.world.dialled == [("93.184.216.34", 443)]


def test_a_dead_address_is_passed_over(rig: Rig) -> None:
    rig.world.answers["echo.example.org"] = [["93.184.216.36", "93.184.216.34"]]
    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream)
    assert rig.line(stage="firewall")["address"] == "93.184.216.34"


def routes_without(*hosts: str) -> list[Route]:
    return [
        Route(host, inspect=False) for host in ("echo.example.org", "raw.example.org") if host not in hosts
    ]


def test_a_rule_that_goes_closes_what_it_carried(rig: Rig) -> None:
    with (
        rig.tls("echo.example.org:443", "echo.example.org") as kept,
        rig.tls("a.wild.example.org:443", "a.wild.example.org") as lost,
    ):
        assert rig.echoes(kept)
        assert rig.echoes(lost)
        assert rig.set_policy(routes_without(), version=2) == 1
        assert rig.read_all(lost) == b""
        assert rig.echoes(kept)
    closed = rig.line(event="close", host="a.wild.example.org")
    assert (closed["reason"], closed["policy"]) == ("policy-changed", 1)
    assert rig.refused(rig.head("a.wild.example.org:443")).error["reason"] == "host-not-allowed"
    assert rig.line(stage="egress", verdict="deny")["policy"] == 2


def test_a_rule_that_becomes_inspected_closes_its_opaque_tunnels(rig: Rig) -> None:
    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream)
        assert rig.set_policy([Route("echo.example.org")], version=2) == 1
        assert rig.read_all(stream) == b""


def test_a_rule_with_other_paths_keeps_its_connections(rig: Rig) -> None:
    with rig.tls("seen.example.org:443", "seen.example.org") as stream:
        assert rig.echoes(stream)
        assert rig.set_policy([Route("seen.example.org", paths=("/v2",))], version=2) == 0
        assert rig.echoes(stream)


def test_a_connection_in_the_making_is_closed_too(rig: Rig) -> None:
    rig.world.reachable.clear()
    with rig.connect() as sock:
        sock.sendall(rig.head("raw.example.org:443"))
        rig.wait_until(lambda: bool(rig.world.dialled), "the dial to begin")
        rig.set_policy(routes_without("raw.example.org"), version=2)
        assert rig.read_all(sock) == b""
    assert rig.line(stage="egress")["reason"] == "policy-changed"


def test_a_tunnel_before_its_hello_is_closed_too(rig: Rig) -> None:
    with rig.tunnel("raw.example.org:443") as sock, rig.accept_raw() as peer:
        assert rig.set_policy(routes_without("raw.example.org"), version=2) == 1
        assert rig.read_all(peer) == b""
        assert rig.read_all(sock) == b""


def test_a_policy_that_cannot_be_asked_leaves_the_old_one(rig: Rig) -> None:
    def broken(host: str, port: int) -> Any:
        raise RuntimeError(host)

    async def swap() -> None:
        rig.gate.set_policy(broken, 2)

    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream)
        with pytest.raises(RuntimeError):
            rig.run(swap())
        assert rig.echoes(stream)
    with rig.tls("echo.example.org:443", "echo.example.org") as stream:
        assert rig.echoes(stream)


def test_a_policy_that_breaks_lets_nobody_in(rig: Rig) -> None:
    def broken(host: str, port: int) -> Any:
        raise RuntimeError(host)

    async def swap() -> None:
        rig.gate.set_policy(broken, 2)

    rig.run(swap())
    assert rig.refused(rig.head("echo.example.org:443")).status == 0
    rig.wait_until(lambda: len(rig.crashes) == 1, "the failure to be reported")
    assert str(rig.crashes[0]) == "echo.example.org"
    assert rig.world.dialled == []
    rig.crashes.clear()
