"""What an agent is told: enough to ask for exactly that, and nothing that it may not know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_bottle.policy.denials import Attempt, denial, proposal
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef
from claude_bottle.policy.routes import decide_connect, decide_request

SECRET = SecretRef("command", ("pass", "show", "the-token"))
API = Route(
    "api.example.org",
    methods=("GET",),
    paths=("/v1",),
    auth=Auth("bearer", SECRET),
    origin="/home/o/dev.md:7",
)
POLICY = Policy((API, Route("*.example.net", ports=(443, 8443)), Route("tunnel.example.com", inspect=False)))


def told(attempt: Attempt, *, supervised: bool = True, policy: Policy = POLICY) -> dict[str, Any]:
    found = (
        decide_request(policy, *attempt)
        if attempt.method
        else decide_connect(policy, attempt.host, attempt.port)
    )
    assert not found.allowed
    said = denial(attempt, found.reason, found.detail, found.nearest, supervised=supervised)
    error = json.loads(json.dumps(said))["error"]
    assert isinstance(error, dict)
    return error


def as_route(asked: dict[str, Any]) -> Route:
    """What an approval of the proposal as it is would be."""
    return Route(**{key: tuple(value) if isinstance(value, list) else value for key, value in asked.items()})


@pytest.mark.parametrize(
    "attempt",
    [
        Attempt("new.example.test", 443),
        Attempt("api.example.org", 8443),
        Attempt("93.184.216.34", 22),
        Attempt("2606:2800:220:1::1", 443),
        Attempt("api.example.org", 443, "POST", "/v1/x?token=secret"),
        Attempt("api.example.org", 443, "GET", "/v2/a%20b/?q=1"),
        Attempt("new.example.test", 443, "GET", "/"),
    ],
)
def test_what_is_proposed_would_allow_it_and_nothing_beside_it(attempt: Attempt) -> None:
    asked = told(attempt)["proposal"]
    policy = Policy((*POLICY.routes, as_route(asked)))
    if not attempt.method:
        assert decide_connect(policy, attempt.host, attempt.port).allowed
        assert set(asked) - {"inspect"} == {"host", "ports"}
        return
    assert decide_request(policy, *attempt).allowed
    assert "token" not in json.dumps(asked)  # a query may hold anything
    assert not decide_request(policy, *attempt._replace(path="/elsewhere-z")).allowed or attempt.path == "/"
    assert not decide_request(policy, *attempt._replace(method="DELETE")).allowed
    assert not decide_connect(policy, f"x.{attempt.host}", attempt.port).allowed


@pytest.mark.parametrize(
    "attempt",
    [
        Attempt("10.0.0.1", 443),
        Attempt("::ffff:93.184.216.34", 443),
        Attempt("no host", 443),
        Attempt("api.example.org", 443, "PROPFIND", "/v1"),
        Attempt("api.example.org", 443, "CONNECT", "/v1"),
        Attempt("api.example.org", 443, "GET", "/v1/../x"),
        Attempt("api.example.org", 443, "GET", "/" + "a" * 513),
    ],
)
def test_what_no_route_can_allow_is_not_proposed(attempt: Attempt) -> None:
    said = told(attempt)
    assert said["proposal"] is None
    assert said["next"].startswith("No approval allows this")


def test_other_reasons_are_not_to_be_asked_for() -> None:
    for reason in (
        "host-mismatch",
        "private-address",
        "ip-literal",
        "stage-down",
        "path-invalid",
        "new-word",
    ):
        assert proposal(Attempt("a.example", 443, "GET", "/"), reason) is None
    said = denial(Attempt("a.example", 443), "stage-down", "", supervised=True)["error"]
    assert "try again" in str(said)


def test_without_a_supervisor_nothing_is_offered() -> None:
    said = told(Attempt("new.example.test", 443), supervised=False)
    assert said["proposal"] is None
    assert "egress-block" not in json.dumps(said)
    assert "do without it" in said["next"]


def test_the_nearest_rule_is_shown_without_its_credential_and_place() -> None:
    said = told(Attempt("api.example.org", 443, "POST", "/v1"))
    assert said["nearest"] == {
        "host": "api.example.org",
        "ports": [443],
        "methods": ["GET"],
        "paths": ["/v1"],
        "inspect": True,
    }
    for word in ("the-token", "command", "bearer", "dev.md", "auth"):
        assert word not in json.dumps(said)


def test_it_stays_small_whatever_was_tried_and_whatever_is_allowed() -> None:
    long = Route(
        "a" * 60 + ".example.org", ports=tuple(range(1, 900)), paths=tuple(f"/{n:0900}" for n in range(900))
    )
    attempt = Attempt(long.host, 443, "GET", "/" + "b" * 16_000)
    said = denial(attempt, "path-not-allowed", "\x1b\N{SNOWMAN}" * 4000, long, supervised=True)
    raw = json.dumps(said)
    assert len(raw) < 10_000
    assert raw.isascii()
    assert raw.isprintable()


def test_a_head_that_is_no_connect_is_told_of_without_a_host() -> None:
    said = denial(Attempt("", 0), "only-connect", "use https", supervised=True)["error"]
    assert isinstance(said, dict)
    assert (said["host"], said["port"], said["proposal"]) == (None, None, None)
