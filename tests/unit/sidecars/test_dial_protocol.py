"""Which addresses of an answer are dialled, and what Envoy may ask for."""

from __future__ import annotations

import pytest

from claude_bottle.policy.clienthello import ClientHello
from claude_bottle.policy.model import Route, Upstream
from claude_bottle.sidecars.pipelock.protocol import (
    StageError,
    Target,
    check_way,
    choose_addresses,
    host_of_hello,
)

PUBLIC_4 = [f"93.184.216.{number}" for number in range(1, 6)]
PUBLIC_6 = [f"2606:2800:220:1::{number}" for number in range(1, 6)]
PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "0.0.0.0",
    "::",
    "::1",
    "fe80::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.216.34",
    "64:ff9b::7f00:1",
]


def texts(answer: list[str], *, private_allowed: bool = False) -> list[str]:
    return [str(address) for address in choose_addresses(answer, private_allowed=private_allowed)]


def reason_of(answer: list[str]) -> tuple[str, bool]:
    with pytest.raises(StageError) as caught:
        choose_addresses(answer, private_allowed=False)
    return caught.value.reason, caught.value.refused


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_answer_is_refused(address: str) -> None:
    assert reason_of([address]) == ("private-address", True)


def test_private_addresses_are_left_out() -> None:
    assert texts([*PRIVATE, PUBLIC_4[0], *PRIVATE, PUBLIC_6[0]]) == [PUBLIC_4[0], PUBLIC_6[0]]


def test_order_is_kept_and_no_family_takes_all_tries() -> None:
    assert texts(PUBLIC_6 + PUBLIC_4) == [*PUBLIC_6[:2], *PUBLIC_4[:2]]
    assert texts([PUBLIC_4[0]] * 5 + [PUBLIC_4[1]]) == PUBLIC_4[:2]


def test_an_empty_answer() -> None:
    assert reason_of([]) == ("dns-failure", False)


@pytest.mark.parametrize("text", ["example.org", "0x7f000001", "127.1", "", "fe80::1%lo"])
def test_an_answer_that_is_no_address_spoils_it_all(text: str) -> None:
    assert reason_of([PUBLIC_4[0], text])[0] == "dns-failure"


def test_the_operators_own_may_be_private() -> None:
    assert texts(["127.0.0.1"], private_allowed=True) == ["127.0.0.1"]


def asked(pattern: str, sni: str | None) -> str:
    return host_of_hello(Target(pattern, 443), ClientHello(sni, encrypted_name=False))


def test_envoy_asks_for_the_host_of_its_socket() -> None:
    assert asked("api.example.org", "api.example.org") == "api.example.org"
    assert asked("*.example.org", "a.b.example.org") == "a.b.example.org"


@pytest.mark.parametrize(
    ("pattern", "sni", "reason"),
    [
        ("api.example.org", None, "sni-missing"),
        ("api.example.org", "evil.example.org", "sni-mismatch"),
        ("api.example.org", "api.example.org.", "sni-mismatch"),
        ("*.example.org", "example.org", "sni-mismatch"),
        ("*.example.org", "evilexample.org", "sni-mismatch"),
        ("*.example.org", ".example.org", "sni-mismatch"),
    ],
)
def test_envoy_asks_for_another_host(pattern: str, sni: str | None, reason: str) -> None:
    with pytest.raises(StageError) as caught:
        asked(pattern, sni)
    assert (caught.value.reason, caught.value.refused) == (reason, True)


OWN = Upstream("http", "127.0.0.1", 8080)
INSPECTED, OPAQUE, OWNED = (
    Route("h.example"),
    Route("h.example", inspect=False),
    Route("h.example", upstream=OWN),
)


@pytest.mark.parametrize(
    ("route", "target"),
    [(OPAQUE, None), (INSPECTED, Target("h.example", 443)), (OWNED, Target("h.example", 443, OWN))],
)
def test_each_rule_has_its_way(route: Route, target: Target | None) -> None:
    check_way(route, target)


@pytest.mark.parametrize(
    ("route", "target"),
    [
        (INSPECTED, None),
        (OWNED, None),
        (OPAQUE, Target("h.example", 443)),
        (OWNED, Target("h.example", 443)),
        (INSPECTED, Target("h.example", 443, OWN)),
    ],
)
def test_and_no_other(route: Route, target: Target | None) -> None:
    with pytest.raises(StageError) as caught:
        check_way(route, target)
    assert (caught.value.reason, caught.value.refused) == ("rule-changed", True)
