"""The authorization server's judgement and its bytes, without Envoy."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from functools import partial

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.policy.model import Auth, Decision, Policy, Route, SecretRef, Upstream
from claude_bottle.policy.routes import decide_request
from claude_bottle.sidecars.egress.authz import AuthzServer, Headers, Judge
from claude_bottle.sidecars.egress.authz_protocol import (
    MAX_HEAD,
    AuthzRequest,
    MalformedError,
    parse_request,
    render_allow,
    render_deny,
)
from claude_bottle.sidecars.egress.outlets import inspected_chains

SECRET = "the-real-secret"
KEY = Route("key.example.org", paths=("/v1",), auth=Auth("header:X-Api-Key", SecretRef("env", ("NAME",))))
OPEN = Route("open.example.org", ports=(443, 8443))
WILD = Route("*.example.net")
POLICY = Policy((KEY, OPEN, WILD), version=3)
HEAD = b"GET /v1/x HTTP/1.1\r\nhost: key.example.org\r\nx-claude-bottle-sni: key.example.org"


def judge_of(
    policy: Policy = POLICY,
    *,
    credential_for: Callable[[Route], Headers | None] = lambda route: (("X-Api-Key", SECRET),),
    decide: Callable[[str, int, str, str], Decision] | None = None,
) -> tuple[Judge, list[dict[str, object]]]:
    events: list[dict[str, object]] = []
    decide = decide or partial(decide_request, policy)
    return Judge(decide, credential_for, events.append, inspected_chains(policy), policy.version), events


def request(
    path: str = "/v1/x", host: str = "key.example.org", port: int = 443, sni: str = ""
) -> AuthzRequest:
    return AuthzRequest("GET", path, host, port, sni or host)


def reason_of(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    return str(json.loads(body)["error"]["reason"])


def test_parse_takes_what_envoy_writes() -> None:
    head = HEAD + b"\r\ncontent-length: 0\r\nx-forwarded-for: 10.0.0.1"
    assert parse_request(head) == AuthzRequest("GET", "/v1/x", "key.example.org", 443, "key.example.org")
    assert parse_request(HEAD.replace(b"host: key.example.org", b"host: key.example.org:8443")).port == 8443


@pytest.mark.parametrize(
    ("told", "peer", "plain"),
    [
        ("HTTP/1.1 10.0.0.0:2", "10.0.0.0:2", True),
        ("HTTP/2 10.0.0.0:3", "10.0.0.0:3", False),
        ("", "", False),
    ],
)
def test_parse_takes_the_name_of_the_connection(told: str, peer: str, plain: bool) -> None:
    request = parse_request(HEAD + f"\r\nx-claude-bottle-peer: {told}".encode())
    assert (request.peer, request.plain) == (peer, plain)


def test_a_request_in_a_connection_that_is_gone_is_refused_and_so_is_one_without_a_use_left() -> None:
    def none_left(_: object) -> None:
        raise LookupError

    for field in ("use", "carried"):
        judge, events = judge_of()
        answer = judge._replace(**{field: none_left}).answer(parse_request(HEAD))
        assert reason_of(answer) == "grant-ended"
        assert SECRET.encode() not in answer
        assert [event["verdict"] for event in events] == ["deny"]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /v1/x",
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"GET /v1/x", b"GET  /v1/x"),
        HEAD.replace(b"/v1/x", b"/v1/ x"),
        HEAD.replace(b"/v1/x", b""),
        HEAD.replace(b"/v1/x", b"/v1/\xe9"),
        HEAD.replace(b"/v1/x", b"/v1/\x00"),
        HEAD.replace(b"GET", b"G(T"),
        HEAD.replace(b"GET", b"G" * 300),
        HEAD.replace(b"\r\nhost: key.example.org", b""),
        HEAD.replace(b"host: key.example.org", b"host: a b"),
        HEAD.replace(b"host: key.example.org", b"host: key.example.org:"),
        HEAD.replace(b"host: key.example.org", b"host: key.example.org:123456"),
        HEAD.replace(b"host: key.example.org", b"host: u@key.example.org"),
        HEAD.replace(b"host: key.example.org", b"host: [::1]"),
        HEAD.replace(b"\r\nx-claude-bottle-sni: key.example.org", b""),
        HEAD + b"\r\nHost: key.example.org",
        HEAD + b"\r\nX-Claude-Bottle-SNI: open.example.org",
        HEAD + b"\r\ncontent-length: 1",
        HEAD + b"\r\ntransfer-encoding: chunked",
        HEAD + b"\r\nno colon",
        HEAD + b"\r\n folded: x",
        HEAD + b"\r\nx: a\nb: c",
        HEAD + b"\r\nx: a\x00",
        HEAD + b"\r\nx: " + b"a" * MAX_HEAD,
    ],
)
def test_parse_refuses_all_else(head: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_request(head)


def test_an_allowed_request_gets_the_credential_and_loses_the_others() -> None:
    judge, events = judge_of()
    lines = judge.answer(request()).decode().split("\r\n")

    assert lines[0] == "HTTP/1.1 200 OK"
    assert f"x-api-key: {SECRET}" in lines
    (removed,) = [line for line in lines if line.startswith("x-envoy-auth-headers-to-remove: ")]
    names = removed.partition(": ")[2].split(",")
    assert {"authorization", "cookie"} <= set(names)
    assert "x-api-key" not in names
    assert [event["verdict"] for event in events] == ["allow"]
    assert SECRET not in repr(events)


def test_a_route_without_auth_changes_nothing() -> None:
    judge, _ = judge_of(credential_for=lambda route: pytest.fail("asked for a credential"))
    answer = judge.answer(request("/", "open.example.org"))
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request(sni="open.example.org"), "host-mismatch"),
        (request(host="KEY.example.org", sni="key.example.org"), "host-mismatch"),
        (request(host="a.example.net", sni="b.example.net"), "host-mismatch"),
        (request(host="other.example.org"), "host-mismatch"),
        (request(port=8443), "port-not-inspected"),
        (request(path="*"), "path-invalid"),
        (request(path="/v1/../x"), "path-invalid"),
        (request(path="/v2"), "path-not-allowed"),
    ],
)
def test_refusals(asked: AuthzRequest, reason: str) -> None:
    judge, events = judge_of()
    assert reason_of(judge.answer(asked)) == reason
    assert [(event["verdict"], event["reason"], event["policy"]) for event in events] == [("deny", reason, 3)]


def test_a_rule_that_leads_elsewhere_is_refused() -> None:
    """Envoy still has the chains of the old policy; the new one sends this host to another server."""
    moved = KEY._replace(upstream=Upstream("https", "gateway.example", 443))
    opaque = KEY._replace(inspect=False)
    for route in (moved, opaque, None):
        judge, _ = judge_of(decide=lambda *asked, route=route: Decision(True, "allowed", route))
        assert reason_of(judge.answer(request())) == "rule-changed"


@pytest.mark.parametrize(
    "credential",
    [
        None,
        (),
        (("X-Api-Key", ""),),
        (("X-Api-Key", "two\r\nlines"),),
        (("X-Api-Key", "nul\0"),),
        (("X-Api-Key", "\N{SNOWMAN}"),),
        (("Authorization", SECRET),),
        (("X-Api-Key", SECRET), ("Authorization", SECRET)),
    ],
)
def test_a_credential_that_cannot_be_set_is_a_refusal(credential: Headers | None) -> None:
    judge, events = judge_of(credential_for=lambda route: credential)
    answer = judge.answer(request())

    assert reason_of(answer) == "credential-unavailable"
    assert SECRET.encode() not in answer
    assert SECRET not in repr(events)


def test_why_a_credential_is_missing_is_for_the_operator_only() -> None:
    def missing(route: Route) -> Headers:
        raise BottleError("NAME is not set")

    judge, events = judge_of(credential_for=missing)
    answer = judge.answer(request())

    assert (reason_of(answer), events[0]["failure"]) == ("credential-unavailable", "NAME is not set")
    assert b"NAME" not in answer


def test_an_unexpected_error_of_a_secret_source_is_not_quoted() -> None:
    def leaky(route: Route) -> Headers:
        raise RuntimeError(SECRET)

    judge, events = judge_of(credential_for=leaky)
    assert SECRET.encode() not in judge.answer(request())
    assert events[0]["failure"] == "RuntimeError"


def test_nothing_is_allowed_that_cannot_be_recorded() -> None:
    def full(event: dict[str, object]) -> None:
        raise OSError("no space left")

    judge = judge_of()[0]._replace(record=full)
    assert reason_of(judge.answer(request())) == "log-unavailable"


def test_the_arguments_of_a_secret_command_are_not_recorded() -> None:
    route = KEY._replace(auth=Auth("header:x-api-key", SecretRef("command", ("vault", "--token", "t0ken"))))
    judge, events = judge_of(Policy((route,)))
    judge.answer(request())
    assert events[0]["credential"] == "command"


def test_a_long_path_is_cut_in_answers_and_events() -> None:
    judge, events = judge_of()
    answer = judge.answer(request("/" + "a" * 50_000))
    assert len(answer) < 4000
    assert len(str(events[0]["path"])) < 3000


def test_a_head_request_is_refused_without_a_body() -> None:
    answer = render_deny(AuthzRequest("HEAD", "/", "h", 443, "h"), "reason", "detail")
    assert answer.endswith(b"\r\n\r\n")


def test_a_refusal_is_plain_ascii_whatever_it_quotes() -> None:
    answer = render_deny(request(), "reason", 'quote " and \N{SNOWMAN} and \x1b')
    assert all(32 <= byte < 127 or byte in b"\r\n" for byte in answer)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["detail"].endswith("\x1b")


def test_an_allowance_cannot_carry_a_second_header() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        render_allow((("x\r\ny", "v"),), ())


def serve(judge: Judge, *script: bytes | Judge) -> list[bytes]:
    """Sends each part of the script, or puts a new judge in place; what came back for each part sent."""

    async def run() -> list[bytes]:
        ours, theirs = socket.socketpair()
        server = AuthzServer(judge)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: connection_of(server), theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        answers = []
        for part in script:
            if isinstance(part, Judge):
                server.judge = part
                continue
            writer.write(part)
            answers.append(await read_answer(reader))
        server.close()
        assert await reader.read() == b""
        writer.close()
        return answers

    return asyncio.run(asyncio.wait_for(run(), 10))


def connection_of(server: AuthzServer) -> asyncio.Protocol:
    from claude_bottle.sidecars.egress.authz import _Connection

    return _Connection(server)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


def test_one_connection_serves_many_requests_by_the_newest_policy() -> None:
    judge, _ = judge_of()
    later, _ = judge_of(Policy((KEY._replace(paths=("/v2",)),), version=4))
    first, second = serve(judge, HEAD + b"\r\n\r\n", later, HEAD + b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert reason_of(second) == "path-not-allowed"


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        HEAD + b"\r\n\r\nrest",
        HEAD + b"\r\n\r\n" + HEAD + b"\r\n\r\n",
        b"a" * (MAX_HEAD + 1),
    ],
)
def test_anything_unexpected_closes_the_connection(data: bytes) -> None:
    judge, events = judge_of()
    assert serve(judge, data) == [b""]
    assert events == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_in_the_policy_closes_the_connection() -> None:
    def broken(*asked: object) -> Decision:
        raise ZeroDivisionError

    assert serve(judge_of(decide=broken)[0], HEAD + b"\r\n\r\n") == [b""]


def test_a_refusal_offers_what_would_ask_for_it_where_somebody_can_be_asked() -> None:
    judge, _ = judge_of()
    for supervised in (False, True):
        answer = judge._replace(supervised=supervised).answer(request("/v2/x?q=1"))
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        asked = {"host": "key.example.org", "ports": [443], "methods": ["GET"], "paths": ["/v2/x"]}
        assert error["proposal"] == (asked if supervised else None)
        assert error["nearest"]["paths"] == ["/v1"]
        assert b"NAME" not in answer


def test_a_head_request_is_refused_without_a_body_also_with_an_offer() -> None:
    answer = render_deny(AuthzRequest("HEAD", "/", "h", 443, "h"), "path-not-allowed", "", supervised=True)
    assert answer.endswith(b"\r\n\r\n")
