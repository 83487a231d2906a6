"""A policy that changes while the bundle and a real Envoy run."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_bottle.policy.live import LiveRoute, live_to_json
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.sidecars.egress.certs import make_ca, make_leaf
from tests.support.live_bundle import (
    SECRET,
    Live,
    Refused,
    Stream,
    granted,
    request,
    running,
    wait_until,
)

pytestmark = pytest.mark.needs("envoy")
TOKEN = SecretRef("env", ("TOKEN",))
POLICY = Policy(
    (
        Route("stays.example.org"),
        Route("opaque.example.org", inspect=False),
        Route("token.example.org", auth=Auth("bearer", TOKEN)),
    )
)


@pytest.fixture
def live(tmp_path: Path, envoy_binary: Path) -> Iterator[Live]:
    with running(tmp_path, envoy_binary, POLICY, {str(TOKEN): SECRET}, spent_seconds=1.0) as made:
        yield made


def test_a_host_that_is_added_is_there_when_the_change_is_answered(live: Live) -> None:
    assert live.get("new.example.org") == 403
    assert live.add(granted("new.example.org"))["version"] == 2
    assert live.get("new.example.org") == 200
    assert ("new.example.org", "/", "") in live.internet.seen


def test_a_wildcard_that_is_added_serves_what_lies_below_it(live: Live) -> None:
    live.add(granted("*.wild.example.org"))
    assert live.get("a.wild.example.org") == 200
    assert live.get("wild.example.org") == 403


def test_a_stream_on_another_host_survives_all_kinds_of_changes(live: Live) -> None:
    stream = Stream(live, "stays.example.org")
    opaque = live.session("opaque.example.org", trust=live.internet.ca.cert_pem)
    for number in range(4):
        live.add(granted(f"n{number}.example.org"))
        assert live.get(f"n{number}.example.org") == 200
    live.add(granted("gw.example.org", upstream=Upstream("http", "127.0.0.1", 9)))
    live.add(granted("other.example.org", auth=Auth("bearer", TOKEN)))
    for host in ("n1.example.org", "gw.example.org", "n0.example.org", "other.example.org"):
        live.remove(host)
        assert live.get(host) == 403
    assert stream.goes_on()
    assert request(opaque, "opaque.example.org") == 200
    opaque.close()
    stream.close()


def test_what_is_removed_is_closed_at_once(live: Live) -> None:
    live.add(granted("gone.example.org"))
    streams = [Stream(live, "gone.example.org"), Stream(live, "stays.example.org")]
    opaque = live.session("opaque.example.org", trust=live.internet.ca.cert_pem)
    assert live.remove("gone.example.org")["closed"] == 1
    assert streams[0].ended.wait(5)
    assert streams[1].goes_on()
    assert live.remove("opaque.example.org")["closed"] == 1
    with pytest.raises((OSError, ConnectionResetError)):
        request(opaque, "opaque.example.org")
    assert live.get("gone.example.org") == 403
    assert live.get("stays.example.org") == 200
    opaque.close()
    for stream in streams:
        stream.close()


def test_a_request_that_is_no_longer_allowed_is_cut_off_though_its_host_stays(live: Live) -> None:
    """And one that still is goes on, in another connection to the same host."""
    live.add(granted("two.example.org", paths=("/stream",)), granted("two.example.org", paths=("/other",)))
    doomed = Stream(live, "two.example.org")
    with live.session("two.example.org") as kept:
        assert request(kept, "two.example.org", "/other") == 200
        left = tuple(item for item in live.live().routes if item.route.paths != ("/stream",))
        assert live.change(*left)["closed"] == 1
        assert doomed.ended.wait(5)
        assert request(kept, "two.example.org", "/other") == 200
        assert request(kept, "two.example.org", "/stream") == 403
    doomed.close()


def test_uses_are_counted_and_the_last_one_may_end(live: Live) -> None:
    live.add(granted("few.example.org", uses=2))
    with live.session("few.example.org") as stream:
        assert request(stream, "few.example.org") == 200
        assert live.live().routes[-1].bounds.uses == 1
        version = live.live().version
        assert request(stream, "few.example.org") == 200
        assert live.live().version == version + 1
        assert request(stream, "few.example.org") == 403
    assert live.get("few.example.org") == 403
    assert [line["host"] for line in live.decisions("grant-ended")] == ["few.example.org"]


def test_what_is_under_way_on_a_spent_grant_is_closed_after_a_while(live: Live) -> None:
    live.add(granted("once.example.org", uses=1))
    stream = Stream(live, "once.example.org")
    assert live.get("once.example.org") == 403
    assert stream.goes_on()
    assert stream.ended.wait(10)
    stream.close()


def test_a_tunnel_on_an_opaque_rule_is_a_use(live: Live) -> None:
    live.add(granted("one.example.org", uses=1, inspect=False))
    with live.session("one.example.org", trust=live.internet.ca.cert_pem) as stream:
        assert request(stream, "one.example.org") == 200
        with pytest.raises(Refused):
            live.tunnel("one.example.org")
        assert request(stream, "one.example.org") == 200


def test_of_two_at_once_for_one_use_one_is_served(live: Live) -> None:
    live.add(granted("one.example.org", uses=1, inspect=False))
    tunnels = [live.tunnel("one.example.org") for _ in range(2)]
    context = ssl.create_default_context(cadata=live.internet.ca.cert_pem)
    served = 0
    for tunnel in tunnels:
        try:
            with context.wrap_socket(tunnel, server_hostname="one.example.org"):
                served += 1
        except OSError:
            tunnel.close()
    assert served == 1


def test_a_grant_ends_by_the_clock_and_so_does_what_it_carries(live: Live) -> None:
    live.add(granted("soon.example.org", until=time.time() + 1.5))
    stream = Stream(live, "soon.example.org")
    assert stream.ended.wait(10)
    assert live.get("soon.example.org") == 403
    assert live.live().version == 3
    assert [item.route.host for item in live.live().routes] == [route.host for route in POLICY.routes]
    stream.close()


def test_of_two_editors_the_second_hears_of_a_conflict(live: Live) -> None:
    version = live.live().version
    live.add(granted("first.example.org"))
    said = live.change(granted("second.example.org"), expect=version)
    assert (said["ok"], said["error"]) == (False, "conflict")
    assert live.get("first.example.org") == 200


def test_a_change_that_envoy_does_not_take_changes_nothing(live: Live) -> None:
    stream = Stream(live, "stays.example.org")
    before, sockets = live.control(op="look"), sorted(live.folder.glob("up-*"))
    listeners = (live.folder / "listeners.json").read_text()
    broken = [make_leaf(live.ca, "bad.example.org").cert_pem, make_ca("another").key_pem]
    said = live.change(*live.live().routes, granted("bad.example.org"), leaves={"bad.example.org": broken})
    assert (said["ok"], said["error"]) == (False, "failed")
    after = live.control(op="look")
    assert {**after, "in_force_at": 0} == {**before, "in_force_at": 0}
    assert sorted(live.folder.glob("up-*")) == sockets
    assert (live.folder / "listeners.json").read_text() == listeners
    assert live.get("bad.example.org") == 403
    live.add(granted("bad.example.org"))
    assert live.get("bad.example.org") == 200
    assert stream.goes_on()
    stream.close()


@pytest.mark.parametrize(
    ("route", "more", "words"),
    [
        (Route("x.example.org"), {"leaves": {}}, "certificate"),
        (Route("x.example.org", auth=Auth("bearer", SecretRef("env", ("OTHER",)))), {}, "credential"),
        (Route("stays.example.org", upstream=Upstream("http", "127.0.0.1", 1)), {}, "upstream"),
        (Route("192.0.2.1"), {"leaves": {}}, "address"),
    ],
)
def test_a_bad_change_changes_nothing(live: Live, route: Route, more: dict[str, object], words: str) -> None:
    before = live.live()
    more = {"leaves": {"x.example.org": list(make_leaf(live.ca, "x.example.org"))}, **more}
    after = before._replace(routes=(*before.routes, LiveRoute(route)), version=before.version + 1)
    said = live.control(op="change", expect=before.version, live=live_to_json(after), decision="d-1", **more)
    assert (said["ok"], said["error"]) == (False, "invalid")
    assert words in said["detail"]
    assert live.live() == before
    assert live.control(op="applied", decision="d-1")["applied"] is False


def test_a_credential_may_come_with_the_change(live: Live) -> None:
    secret = SecretRef("env", ("OTHER",))
    route = granted("auth.example.org", auth=Auth("bearer", secret))
    said = live.change(*live.live().routes, route, credentials={str(secret): SECRET + "-2"})
    assert said["ok"], said
    assert live.get("auth.example.org") == 200
    assert ("auth.example.org", "/", f"bearer {SECRET}-2") in live.internet.seen


def test_a_restarted_envoy_serves_what_is_in_force(live: Live) -> None:
    live.add(granted("new.example.org"))
    live.remove("stays.example.org")
    os.kill(live.envoy, signal.SIGKILL)
    wait_until(lambda: bool(live.decisions("sidecar-restarted")), "Envoy to be started again")
    assert live.get("new.example.org") == 200
    assert live.get("stays.example.org") == 403


def test_all_may_go_and_come_back(live: Live) -> None:
    assert live.change()["ok"]
    assert live.get("stays.example.org") == 403
    live.add(granted("stays.example.org"))
    assert live.get("stays.example.org") == 200


def test_the_authority_is_given_out_and_never_written(live: Live) -> None:
    said = live.control(op="authority")
    assert (said["cert"], said["key"]) == live.ca
    found = [
        path
        for path in live.folder.rglob("*")
        if path.is_file() and live.ca.key_pem[30:90] in path.read_text()
    ]
    assert not found
