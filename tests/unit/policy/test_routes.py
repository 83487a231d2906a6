"""What goes out is what a route says, and a refusal names what would be allowed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.policy.model import Decision, Policy, Route
from claude_bottle.policy.routes import decide_connect, decide_request, merge_routes, routes_for

API = Route("api.example.org", methods=("POST",), paths=("/v1/messages",))
SUBDOMAINS = Route("*.example.org", ports=(443, 8443))
DEEPER = Route("*.deep.example.org", methods=("GET",))
TUNNEL = Route("tunnel.example.net", inspect=False)
POLICY = Policy((SUBDOMAINS, API, DEEPER, TUNNEL))


def api(method: str, path: str) -> Decision:
    return decide_request(Policy((API,)), "api.example.org", 443, method, path)


def test_the_most_specific_route_answers_first() -> None:
    assert decide_connect(POLICY, "api.example.org", 443).route is API
    assert decide_connect(POLICY, "x.deep.example.org", 443).route is DEEPER
    assert decide_connect(POLICY, "deep.example.org", 443).route is SUBDOMAINS
    assert decide_connect(POLICY, "API.example.org.", 443).route is API


def test_another_port_may_come_from_a_wider_route() -> None:
    assert decide_connect(POLICY, "api.example.org", 8443).route is SUBDOMAINS


@pytest.mark.parametrize(
    ("host", "port", "reason", "named"),
    [
        ("example.org", 443, "host-not-allowed", "near it: *.example.org"),
        ("api.exemple.net", 443, "host-not-allowed", "api.example.org"),
        ("evil.test", 443, "host-not-allowed", "tunnel.example.net"),
        ("api.example.org", 22, "port-not-allowed", "allowed: 443, 8443"),
        ("127.0.0.1", 443, "host-not-allowed", ""),
        ("2130706433", 443, "host-invalid", ""),
        ("api.example.org\0.evil.test", 443, "host-invalid", ""),
        ("", 443, "host-invalid", ""),
    ],
)
def test_refused_connections(host: str, port: int, reason: str, named: str) -> None:
    decision = decide_connect(POLICY, host, port)
    assert not decision.allowed
    assert decision.reason == reason
    assert decision.route is None
    assert named in decision.detail


def test_an_empty_policy_allows_nothing() -> None:
    assert decide_connect(Policy(()), "api.example.org", 443).reason == "host-not-allowed"


@pytest.mark.parametrize(
    "path",
    ["/v1/messages", "/v1/messages/", "/v1/messages/x", "/v1/messages?beta=true", "/v1/messages/a%20b"],
)
def test_below_a_prefix(path: str) -> None:
    decision = api("POST", path)
    assert decision == Decision(True, "allowed", API, decision.detail)


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/messagesX", "/v1/messages.bak", "/V1/messages", "/v2/v1/messages"]
)
def test_beside_a_prefix(path: str) -> None:
    decision = api("POST", path)
    assert decision.reason == "path-not-allowed"
    assert "/v1/messages" in decision.detail


def test_a_prefix_with_a_slash_covers_what_is_below_only() -> None:
    policy = Policy((Route("a.example", paths=("/v1/",)),))
    assert decide_request(policy, "a.example", 443, "GET", "/v1/x").allowed
    assert decide_request(policy, "a.example", 443, "GET", "/v1").reason == "path-not-allowed"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1/messages",
        "*",
        "http://api.example.org/v1/messages",
        "//v1/messages",
        "/v1//messages",
        "/v1/messages/../admin",
        "/v1/messages/..",
        "/v1/messages/.",
        "/v1/messages/./x",
        "/v1/messages/%2e%2e/admin",
        "/v1/messages/.%2E/admin",
        "/v1/messages/%252e%252e/admin",
        "/v1/messages/..;a=b/admin",
        "/v1/messages%2f..%2fadmin",
        "/v1/messages/%5c..",
        "/v1/messages/%252f",
        "/v1/messages\\admin",
        "/v1/messages/%00",
        "/v1/messages/%0d%0aHost:evil",
        "/v1/messages/%7f",
        "/v1/messages/%c0%ae%c0%ae/admin",
        "/v1/messages/%",
        "/v1/messages/%zz",
        "/v1/messages/\r\nx",
        "/v1/messages/\0",
        "/v1/messages/ x",
        "/v1/messages/é",
        "/v1/messages#x",
        "/v1/messages?q=\n",
        "/v1/messages?" + "x" * 20_000,
    ],
)
def test_paths_that_two_servers_may_read_differently(path: str) -> None:
    assert api("POST", path).reason == "path-invalid"


def test_a_query_is_not_judged_like_a_path() -> None:
    assert api("POST", "/v1/messages?next=//a/../b%2f").allowed


@pytest.mark.parametrize("method", ["GET", "post", "", "PO ST", "POST\r\n", "CONNECT", "X" * 65])
def test_refused_methods(method: str) -> None:
    decision = api(method, "/v1/messages")
    assert decision.reason == "method-not-allowed"
    assert decision.detail.isprintable()


def test_the_refusal_of_a_method_names_the_right_one() -> None:
    assert api("GET", "/v1/messages").detail == "GET is not allowed on api.example.org; allowed: POST"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "TRACK"])
@pytest.mark.parametrize("route", [Route("a.example"), Route("a.example", inspect=False)])
def test_no_route_allows_a_tunnel_in_a_request(method: str, route: Route) -> None:
    assert decide_request(Policy((route,)), "a.example", 443, method, "/").reason == "method-not-allowed"


def test_any_route_of_a_host_may_allow() -> None:
    read = Route("a.example", methods=("GET",), paths=("/read",))
    write = Route("a.example", methods=("POST",), paths=("/write",))
    policy = Policy((read, write))
    assert decide_request(policy, "a.example", 443, "GET", "/read/1").route is read
    assert decide_request(policy, "a.example", 443, "POST", "/write").route is write
    crossed = decide_request(policy, "a.example", 443, "GET", "/write")
    assert crossed.reason == "path-not-allowed"
    assert crossed.detail.endswith("allowed below: /read")


def test_a_wider_tunnel_does_not_undo_a_narrow_rule() -> None:
    policy = Policy((Route("*.example.org", inspect=False), API))
    assert decide_connect(policy, "api.example.org", 443).route is API
    assert decide_request(policy, "api.example.org", 443, "DELETE", "/").reason == "method-not-allowed"


def test_on_one_pattern_inspection_comes_before_a_tunnel() -> None:
    tunnel, seen = Route("a.example", inspect=False), Route("a.example", methods=("GET",))
    assert routes_for(Policy((tunnel, seen)), "a.example") == (seen, tunnel)


def test_a_tunnel_answers_for_what_is_in_it() -> None:
    assert decide_request(POLICY, "tunnel.example.net", 443, "GET", "/x").route is TUNNEL


def test_merging_drops_what_is_named_again() -> None:
    other, new = Route("b.example"), Route("a.example", methods=("GET",))
    merged = merge_routes([Route("a.example"), other, Route("a.example", ports=(80,))], [new])
    assert merged == (other, new)


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(), st.text(max_size=20), st.text(max_size=80))
def test_hostile_text_is_judged_and_the_answer_is_printable(
    host: str, port: int, method: str, path: str
) -> None:
    for decision in (
        decide_request(POLICY, host, port, method, path),
        decide_request(POLICY, "api.example.org", 443, method, path),
        decide_request(POLICY, "api.example.org", 443, "POST", path),
    ):
        assert decision.allowed == (decision.route is not None)
        assert decision.detail.isprintable()
        assert len(decision.detail) < 1000


@settings(deadline=None)
@given(st.text(alphabet="/.%2eEfF5cC;v1mesag?", max_size=40))
def test_an_allowed_path_still_lies_below_its_prefix_after_decoding(path: str) -> None:
    import posixpath
    from urllib.parse import unquote

    target = "/v1/messages/" + path
    if not api("POST", target).allowed:
        return
    once = unquote(target.partition("?")[0])
    for decoded in (once, unquote(once)):
        assert posixpath.normpath(decoded).startswith("/v1/messages")


def test_a_refusal_names_the_rule_that_comes_nearest() -> None:
    far = Route("far.example.org", paths=("/v2/a",))
    near = Route("far.example.org", paths=("/v1/a", "/v1/b/c"))
    policy = Policy((Route("other.test"), far, near, Route("*.wild.example")))

    def nearest(host: str, port: int, method: str, path: str) -> Route | None:
        return decide_request(policy, host, port, method, path).nearest

    assert nearest("far.example.org", 443, "GET", "/v1/b/x") is near
    assert nearest("far.example.org", 443, "GET", "/v2/b") is far
    assert nearest("far.example.org", 22, "GET", "/v1/a") is far
    assert nearest("wild.example", 443, "GET", "/") is policy.routes[3]
    assert nearest("elsewhere.net", 443, "GET", "/") is None
    assert nearest("far.example.org", 443, "GET", "/v1/a/x") is None  # as it is allowed
    assert decide_connect(policy, "near.example.org", 443).nearest is far


def test_the_nearest_of_a_wrong_method_is_of_the_same_host() -> None:
    assert api("DELETE", "/v1/messages").nearest is API
