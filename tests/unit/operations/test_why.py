"""The bottle's judgement for its operator, and the command that would change it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_bottle.cli import routes as command_line
from claude_bottle.cli.runner import _Parser
from claude_bottle.errors import UsageError
from claude_bottle.operations.deciding import Seen
from claude_bottle.operations.why import Verdict, _asked, _logged, as_json, as_lines, command, judge, target
from claude_bottle.policy.denials import Attempt
from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute
from claude_bottle.policy.model import Route, Upstream
from claude_bottle.policy.proposals import EGRESS, Asked, Queue, ask

RULE = LiveRoute(Route("docs.example.org", methods=("GET",), paths=("/v1",), origin="dev.md:7"))
GRANT = LiveRoute(
    Route("docs.example.org", methods=("GET",), paths=("/v1",), origin="p-1"), Bounds(None, 2), "d-1"
)
TUNNEL = LiveRoute(Route("tunnel.example.org", inspect=False, origin="dev.md:9"))
NUMBER = LiveRoute(Route("93.184.216.34", ports=(22,), inspect=False, origin="dev.md:11"))
LOCAL = LiveRoute(Route("local.example.org", paths=("/a",), upstream=Upstream("http", "127.0.0.1", 80)))
ENDED = LiveRoute(Route("over.example.org"), Bounds(900.0), "d-2")
SEEN = Seen(LivePolicy((RULE, GRANT, TUNNEL, NUMBER, LOCAL, ENDED), 7), Queue(), 1000.0)


def verdict(url: str, method: str = "GET", seen: Seen = SEEN) -> Verdict:
    return judge(seen, target(url, method))


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("docs.example.org", ("docs.example.org", 443, "/")),
        ("https://DOCS.example.org.:8443/a?b=1#c", ("docs.example.org", 8443, "/a?b=1")),
        ("docs.example.org:8443/a", ("docs.example.org", 8443, "/a")),
        ("https://[2606:2800:220:1::1]/", ("2606:2800:220:1::1", 443, "/")),
        ("https://\u0440\u0443.example/", ("xn--p1ag.example", 443, "/")),
    ],
)
def test_what_a_url_means(url: str, meant: tuple[str, int, str]) -> None:
    host, port, _, path = target(url, "GET")
    assert (host, port, path) == meant


@pytest.mark.parametrize(
    "url",
    [
        "http://docs.example.org/",
        "ftp://docs.example.org/",
        "https://user:pw@docs.example.org/",
        "https://docs.example.org:99999/",
        "https://",
        "",
        "https://a b/",
        "https://0x7f000001/",
        "https://docs.example.org\u202e/",
        "https://[::1",
    ],
)
def test_what_is_no_url_of_a_bottle(url: str) -> None:
    with pytest.raises(UsageError):
        target(url, "GET")


def test_the_rule_that_decides_is_named() -> None:
    found = verdict("docs.example.org/v1/x?q")
    assert found.allowed
    assert found.rule == RULE  # and no use of the other one is taken
    found = verdict("docs.example.org/v2")
    assert (found.decision.reason, found.rule) == ("path-not-allowed", RULE)
    assert verdict("tunnel.example.org/anything", "DELETE").rule == TUNNEL
    assert verdict("93.184.216.34:22").rule == NUMBER
    assert verdict("over.example.org").decision.reason == "host-not-allowed"


def test_an_address_is_judged_as_the_gate_does() -> None:
    wide = SEEN._replace(live=LivePolicy((LiveRoute(Route("93.184.216.34")),), 1))
    assert verdict("93.184.216.34", seen=wide).decision.reason == "ip-literal"


@pytest.mark.parametrize(
    ("url", "method"),
    [
        ("new.example.org", "GET"),
        ("https://new.example.org:8443/a%20b?secret=1", "POST"),
        ("docs.example.org:8443", "GET"),
        ("docs.example.org/v2", "GET"),
        ("docs.example.org/v1", "DELETE"),
        ("local.example.org/b", "GET"),
        ("93.184.216.35", "GET"),
        ("93.184.216.34:443", "GET"),
    ],
)
def test_the_command_that_is_named_would_allow_it(url: str, method: str) -> None:
    found = verdict(url, method)
    assert not found.allowed
    words = command("a-00000", found)
    assert words[:2] == ("claude-bottle", "routes")
    assert "secret" not in " ".join(words)
    parser = _Parser()
    command_line.configure(parser)
    plan = command_line._adding(parser.parse_args(words[2:]))
    after = SEEN._replace(live=plan(SEEN, "d-9"))
    assert verdict(url, method, after).allowed
    assert not verdict("elsewhere.example.net", seen=after).allowed


@pytest.mark.parametrize("url", ["docs.example.org/../x", "10.0.0.1", "docs.example.org/v1/%2fx"])
def test_where_no_rule_can_allow_it_none_is_named(url: str) -> None:
    assert command("a-00000", verdict(url)) == ()
    assert ("allow it", "no rule can") in as_lines(verdict(url))


def test_a_proposal_that_waits_is_named() -> None:
    asked = Asked(EGRESS, "please", Route("new.example.org", paths=("/a",)))
    queue, made = ask(Queue(), asked, 1.0)
    assert _asked(queue.pending, target("new.example.org/a/b", "GET")) == made.id
    assert _asked(queue.pending, target("new.example.org/b", "GET")) == ""


def test_the_last_time_it_was_tried(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    base = {"host": "docs.example.org", "port": 443, "verdict": "deny", "reason": "path-not-allowed"}
    lines = [
        {**base, "at": "1", "method": "GET", "path": "/v2?token"},
        {**base, "at": "2", "method": "GET", "path": "/v2?token=\x1b]2;x"},
        {**base, "at": "3", "method": "GET", "path": "/other"},
        {**base, "at": "4", "port": 8443, "method": "GET", "path": "/v2"},
        {"event": "grant-ended", "host": "*.example.org", "decision": "d-7", "at": "6"},
        {"event": "grant-ended", "host": "other.example.org", "decision": "d-8", "at": "7"},
        {"event": "close", "host": "docs.example.org", "port": 443, "at": "5"},
    ]
    log.write_text("not json\n[]\n" + "".join(json.dumps(line) + "\n" for line in lines))
    last, ended = _logged(log, Attempt("docs.example.org", 443, "GET", "/v2"))
    assert last is not None
    assert (last.at, last.reason) == ("2", "path-not-allowed")
    assert ended == "decision d-7 at 6"
    last, _ = _logged(log, Attempt("docs.example.org", 443, "PUT", "/v2"))
    assert last is not None
    assert last.at == "3"
    assert _logged(log, Attempt("new.example.net", 443, "GET", "/")) == (None, "")
    assert _logged(None, Attempt("docs.example.org", 443, "GET", "/")) == (None, "")


def test_as_data_and_as_lines() -> None:
    found = verdict("docs.example.org/v1")
    assert as_json(found)["rule"]["origin"] == "dev.md:7"
    assert as_json(found)["nearest"] is None
    assert ("by", "docs.example.org  GET  /v1") in as_lines(found)
    assert ("from", "dev.md:7") in as_lines(found)
    denied = verdict("docs.example.org/v2")._replace(command=("claude-bottle", "routes", "a b"))
    assert as_json(denied)["rule"] is None
    assert as_json(denied)["nearest"]["origin"] == "dev.md:7"
    assert ("allow it", "claude-bottle routes 'a b'") in as_lines(denied)
    json.dumps([as_json(found), as_json(denied)])
