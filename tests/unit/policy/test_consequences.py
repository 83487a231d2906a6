"""What an approval would open besides what it says, and which names could be taken for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.policy.consequences import Consequence, consequences
from claude_bottle.policy.likeness import looks_like, readable
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream

TOKEN = Auth("bearer", SecretRef("env", ("TOKEN",)))
NARROW = Route("api.example.org", methods=("GET",), paths=("/v1",))


def words(route: Route, *others: Route, met: tuple[str, ...] = ()) -> set[str]:
    return {item.word for item in consequences(Policy(others), route, met)}


def one(word: str, route: Route, *others: Route) -> Consequence:
    (found,) = [item for item in consequences(Policy(others), route) if item.word == word]
    return found


@pytest.mark.parametrize(
    ("host", "known", "why"),
    [
        ("github.com.evil.example", "github.com", "contains github.com, but ends in evil.example"),
        ("api.github.com.evil.example", "github.com", "ends in evil.example"),
        ("evilgithub.com", "github.com", "contains github.com without being below it"),
        ("github-com.example", "github.com", "contains github.com without"),
        ("githud.com", "github.com", "letter or two"),
        ("api.gihtub.com", "github.com", "letter or two"),
        ("githubb.com", "github.com", "letter or two"),
        ("xn--gthub-n4a.com", "github.com", "looks like github.com"),  # a dotless i
        ("xn--80ak6aa92e.com", "apple.com", "looks like apple.com"),  # all of it Cyrillic
        ("exmp.org", "exam.org", ""),  # too short to be told by a letter
        ("paypa1.com", "paypal.com", "looks like paypal.com"),
        ("rnicrosoft.com", "microsoft.com", "looks like microsoft.com"),
        ("other.github.io", "mother.github.io", "letter or two"),  # anybody may have a name there
        ("api2.example.org", "api.example.org", ""),  # neighbours of one owner
        ("github.com", "github.com", ""),
        ("api.github.com", "github.com", ""),
        ("example.net", "unrelated.org", ""),
        ("192.0.2.1", "192.0.2.2", ""),
    ],
)
def test_a_name_that_could_be_taken_for_a_known_one(host: str, known: str, why: str) -> None:
    found = looks_like(host, [known])
    assert (why in found) if why else found == ""


@given(st.text(alphabet="abcdefghijklmnop-.x1", min_size=1, max_size=253), st.text(max_size=80))
def test_no_name_breaks_the_comparison(host: str, other: str) -> None:
    looks_like(host, [other, "github.com"])
    readable(host)


def test_punycode_is_shown_as_what_it_stands_for() -> None:
    found = one("punycode", Route("xn--gthub-n4a.com"))
    assert "xn--gthub-n4a.com stands for gıthub.com" in found.text
    assert found.grave


def test_a_narrow_rule_on_a_known_host_says_little() -> None:
    assert words(NARROW, Route("api.example.org", methods=("POST",))) == set()


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route("new.example.org", methods=("GET",), paths=("/a",)), {"first-seen"}),
        (Route("new.example.org"), {"first-seen", "all-open", "data-out"}),
        (NARROW._replace(paths=()), {"first-seen", "all-paths"}),
        (NARROW._replace(methods=()), {"first-seen", "all-methods", "data-out"}),
        (NARROW._replace(inspect=False, methods=(), paths=()), {"first-seen", "not-inspected"}),
        (NARROW._replace(host="*.example.org"), {"first-seen", "wildcard"}),
        (NARROW._replace(ports=(443, 8443)), {"first-seen", "ports"}),
        (Route("203.0.114.7", inspect=False), {"first-seen", "not-inspected", "address"}),
        (Route("10.0.0.1", inspect=False), {"first-seen", "not-inspected", "address", "private-address"}),
        (
            NARROW._replace(upstream=Upstream("http", "127.0.0.1", 80)),
            {"first-seen", "upstream", "private-address"},
        ),
        (NARROW._replace(auth=TOKEN), {"first-seen", "credential"}),
    ],
)
def test_what_makes_a_rule_wide_is_told(route: Route, expected: set[str]) -> None:
    assert words(route) == expected


def test_a_host_that_was_reached_before_is_not_new() -> None:
    assert words(NARROW, met=("api.example.org",)) == set()
    assert words(NARROW, Route("*.example.org", methods=("GET",))) == set()


def test_a_credential_on_that_host_is_told_with_where_it_comes_from() -> None:
    other = Route("api.example.org", methods=("POST",), auth=TOKEN, origin="dev.md:7")
    assert "env:TOKEN is added to what dev.md:7 allows" in one("credential", NARROW, other).text


def test_a_rule_that_takes_a_credential_away_is_told() -> None:
    other = Route("*.example.org", auth=TOKEN, origin="dev.md:7")
    assert "not any more" in one("credential", NARROW, other).text


def test_a_tunnel_past_an_inspected_wildcard_is_told() -> None:
    other = Route("*.example.org", origin="dev.md:7")
    tunnel = Route("api.example.org", inspect=False)
    assert "goes past dev.md:7" in one("past-inspection", tunnel, other).text
    assert "past-inspection" not in words(tunnel, Route("elsewhere.example.net"))


def test_a_host_that_is_a_tunnel_already_is_told() -> None:
    assert "open-already" in words(NARROW, Route("api.example.org", inspect=False))
    assert "open-already" not in words(NARROW, Route("api.example.org"))


def test_another_port_is_another_place() -> None:
    other = Route("api.example.org", ports=(8443,), auth=TOKEN)
    assert "credential" not in words(NARROW, other)
