"""What an agent may ask for, and how: the manifest's own checks, on arguments that are hostile."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.proposals import (
    CAPABILITY,
    EGRESS,
    MAX_KEPT,
    MAX_PACKAGES,
    MAX_PENDING,
    URL,
    Asked,
    Proposal,
)
from claude_bottle.policy.proposals_json import proposal_from_json, proposal_to_json
from claude_bottle.sidecars.control_client import MAX_REPLY
from claude_bottle.sidecars.supervise.tools import (
    CHECK,
    LIST,
    TOOLS,
    ArgumentError,
    Known,
    Wanted,
    allowed_already,
    read,
)

WHY = {"justification": "I need it."}


def asked(tool: str, **arguments: object) -> Asked:
    found = read(tool, {**WHY, **arguments})
    assert isinstance(found, Asked)
    return found


def refused(tool: str, arguments: dict[str, Any]) -> str:
    with pytest.raises(ArgumentError) as caught:
        read(tool, arguments)
    return str(caught.value)


def test_a_route_by_its_parts() -> None:
    found = asked(
        EGRESS,
        host="API.example.org.",
        ports=[8443, 443, 443],
        methods=["GET"],
        paths=["/v1"],
        duration="30m",
    )
    route = Route("api.example.org", (8443, 443), ("GET",), ("/v1",))
    assert found == Asked(EGRESS, WHY["justification"], route, wish=1800.0)


def test_a_route_for_an_address_is_opaque() -> None:
    assert asked(EGRESS, host="192.0.2.7", inspect=False).route == Route("192.0.2.7", inspect=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "host: is needed"),
        ({"host": "*.example.org"}, "wildcard"),
        ({"host": "*"}, "wildcard"),
        ({"host": "192.0.2.7"}, "cannot be inspected"),
        ({"host": "[::1]"}, "cannot be inspected"),
        ({"host": "0x7f.1"}, "looks like"),
        ({"host": "https://example.org"}, "letters"),
        ({"host": "example.org/a"}, "letters"),
        ({"host": "exa\u200bmple.org"}, ""),
        ({"host": "a" * 300}, "at most"),
        ({"host": 7}, "expected a text"),
        ({"host": "a.example", "ports": [0]}, "ports"),
        ({"host": "a.example", "ports": [True]}, "ports"),
        ({"host": "a.example", "ports": list(range(1, 20))}, "at most"),
        ({"host": "a.example", "ports": 443}, "expected a list"),
        ({"host": "a.example", "methods": ["get"]}, "capitals"),
        ({"host": "a.example", "methods": ["CONNECT"]}, "methods"),
        ({"host": "a.example", "paths": ["/a/../b"]}, "dot segment"),
        ({"host": "a.example", "paths": ["a"]}, 'begin with "/"'),
        ({"host": "a.example", "paths": ["/a?b"]}, "query"),
        ({"host": "a.example", "paths": ["/" + "a" * 600]}, "at most"),
        ({"host": "a.example", "paths": ["/a"] * 17}, "at most"),
        ({"host": "a.example", "inspect": False, "paths": ["/a"]}, "cannot be enforced"),
        ({"host": "a.example", "inspect": "no"}, "true or false"),
        ({"host": "a.example", "duration": "for ever"}, "duration"),
        ({"host": "a.example", "duration": 30}, "duration"),
        ({"host": "a.example", "auth": "bearer"}, "unknown"),
        ({"host": "a.example", "upstream": "http://127.0.0.1"}, "unknown"),
        ({"host": "a.example", "justification": ""}, "justification"),
        ({"host": "a.example", "justification": " \n"}, "justification"),
        ({"host": "a.example", "justification": "x" * 2001}, "at most"),
        ({"host": "a.example", "justification": "\ud800"}, "justification"),
        ({"host": "a.example", "justification": None}, "justification"),
        ({"host": "a.example", "justification": "\U0001f600" * 400}, "at most"),
    ],
)
def test_routes_that_cannot_be_asked_for(arguments: dict[str, Any], words: str) -> None:
    assert words in refused(EGRESS, {**WHY, **arguments})


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("https://a.example/x/y?q=1#f", Route("a.example", paths=("/x/y",))),
        ("https://A.example:8443", Route("a.example", (8443,), paths=("/",))),
        ("https://a.example?q", Route("a.example", paths=("/",))),
        ("https://a.example#f", Route("a.example", paths=("/",))),
    ],
)
def test_a_url_is_a_route_of_exactly_its_host_and_path(url: str, route: Route) -> None:
    assert asked(URL, url=url) == Asked(URL, WHY["justification"], route, url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://a.example/",
            "ftp://a.example/",
            "a.example/x",
            "https://",
            "https:///x",
            "HTTPS://a.example/",
        ),
        *(
            "https://user@a.example/",
            "https://user:pw@a.example/",
            "https://a.example:0/",
            "https://a.example:99999/",
        ),
        *(
            "https://192.0.2.7/",
            "https://[::1]/",
            "https://a.example\\@evil.example/",
            "https://*.example.org/",
        ),
        *(
            "https://a.example/a/../b",
            "https://a.example/%2e%2e/",
            "https://a.example/a b",
            "https://a.example//x",
        ),
        *("https://a.example/\n", "https://a.example/" + "a" * 600, "https://" + "a" * 3000),
    ],
)
def test_urls_that_cannot_be_asked_for(url: str) -> None:
    refused(URL, {**WHY, "url": url})


def test_packages_and_lines() -> None:
    found = asked(CAPABILITY, packages=["jq", "ripgrep=13.0.0-4", "jq"], dockerfile="RUN true\n")
    assert (found.packages, found.dockerfile) == (("jq", "ripgrep=13.0.0-4"), "RUN true\n")


def test_the_order_of_packages_makes_no_other_proposal() -> None:
    assert asked(CAPABILITY, packages=["b", "a"]).digest == asked(CAPABILITY, packages=["a", "b"]).digest


@pytest.mark.parametrize(
    "arguments",
    [
        *({}, {"packages": []}, {"dockerfile": " \n"}, {"packages": ["Upper"]}, {"packages": ["a b"]}),
        *({"packages": ["--force"]}, {"packages": ["a"] * 51}, {"packages": "jq"}, {"packages": [["jq"]]}),
        *({"dockerfile": "x" * 16_001}, {"dockerfile": "RUN \x1b[2J"}, {"dockerfile": "RUN \u202e"}),
    ],
)
def test_capabilities_that_cannot_be_asked_for(arguments: dict[str, Any]) -> None:
    refused(CAPABILITY, {**WHY, **arguments})


def test_the_longest_proposals_are_told_to_the_operator_in_one_piece() -> None:
    """So an agent can make nobody blind for what it asks; half of the room is for the answers."""
    longest = {
        "justification": "\U0001f600" * 330,
        "dockerfile": "\n" * 15_999 + "x",
        "packages": ["a" * 200 + "=" + "1" * 97 + f"{number:03}" for number in range(MAX_PACKAGES)],
    }
    made = Proposal("p-0123456789", asked(CAPABILITY, **longest), 1.0)
    size = len(json.dumps(proposal_to_json(made)))
    assert size * (MAX_KEPT + MAX_PENDING) < MAX_REPLY * 2 / 3


def test_looking() -> None:
    assert read(LIST, {}) == Wanted()
    assert read(LIST, {"host": "A.example"}) == Wanted("a.example")
    assert read(CHECK, {"id": "p-0123456789"}) == Known("p-0123456789")
    for ident in ("", "p-", "p-0123456789x", "../../etc", "p-012345678G", 7):
        refused(CHECK, {"id": ident})
    refused(LIST, {"justification": "x"})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
hosts = st.sampled_from(["a.example", "*.a.example", "192.0.2.7", "\u0430.example"]) | anything
arguments = st.fixed_dictionaries(
    {},
    optional={
        "host": hosts,
        "url": st.sampled_from(["https://a.example/x", "https://a.example:1/%41"]) | anything,
        "justification": st.just("why") | anything,
        "ports": st.lists(st.integers(-1, 70_000), max_size=9) | anything,
        "methods": st.lists(st.sampled_from(["GET", "get", "TRACE"]), max_size=3) | anything,
        "paths": st.lists(st.sampled_from(["/a", "/..", "a", "/%2f"]), max_size=3) | anything,
        "inspect": anything,
        "duration": st.sampled_from(["1m", "0m", "99999h"]) | anything,
        "packages": st.lists(st.sampled_from(["jq", "-x", "a=1"]), max_size=3) | anything,
        "dockerfile": anything,
        "id": anything,
    },
)


@given(st.sampled_from([str(tool["name"]) for tool in TOOLS]), arguments)
@settings(max_examples=600, deadline=None)
def test_whatever_passes_is_within_the_bounds_of_every_reader(
    tool: str, given_arguments: dict[str, Any]
) -> None:
    schema = next(item for item in TOOLS if item["name"] == tool)["inputSchema"]
    properties = set(schema["properties"])  # type: ignore[index]
    kept = {name: value for name, value in given_arguments.items() if name in properties}
    try:
        found = read(tool, kept)
    except ArgumentError:
        return
    if isinstance(found, Asked):
        made = Proposal("p-0123456789", found, 1.0)
        assert proposal_from_json(proposal_to_json(made)) == made
        route = found.route
        assert route is None or (route.auth, route.upstream, "*" in route.host) == (None, None, False)
    if all(value is not None for value in kept.values()):
        jsonschema.validate(kept, schema)


def test_schemas_are_schemas() -> None:
    for tool in TOOLS:
        jsonschema.Draft202012Validator.check_schema(tool["inputSchema"])  # type: ignore[arg-type]


KNOWN = Policy(
    (
        Route("any.example"),
        Route("read.example", methods=("GET", "HEAD"), paths=("/v1", "/v2/")),
        Route("both.example", methods=("GET",)),
        Route("both.example", methods=("POST",), paths=("/up",)),
        Route("tunnel.example", (443, 22), inspect=False),
        Route("*.wild.example"),
    )
)


@pytest.mark.parametrize(
    ("route", "allowed"),
    [
        (Route("any.example"), True),
        (Route("any.example", (443, 8443)), False),
        (Route("any.example", inspect=False), False),
        (Route("other.example"), False),
        (Route("read.example"), False),
        (Route("read.example", methods=("GET",), paths=("/v1/x",)), True),
        (Route("read.example", methods=("GET",), paths=("/v1/x", "/v2")), False),
        (Route("read.example", methods=("GET", "POST"), paths=("/v1",)), False),
        (Route("read.example", methods=("GET",), paths=("/v10",)), False),
        (Route("both.example", methods=("GET", "POST"), paths=("/up",)), True),
        (Route("both.example", methods=("GET", "POST")), False),
        (Route("tunnel.example", (22,), inspect=False), True),
        (Route("tunnel.example", paths=("/x",)), True),
        (Route("x.wild.example"), True),
        (Route("wild.example"), False),
    ],
)
def test_what_is_in_force_is_not_asked_for(route: Route, allowed: bool) -> None:
    assert allowed_already(KNOWN, route) is allowed
