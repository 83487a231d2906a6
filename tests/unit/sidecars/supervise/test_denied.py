"""What a denial offers is what the tool takes, and what it asks for would have allowed it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from claude_bottle.policy.denials import Attempt, denial
from claude_bottle.policy.model import Policy, Route
from claude_bottle.policy.proposals import EGRESS, Asked
from claude_bottle.policy.routes import decide_connect, decide_request
from claude_bottle.sidecars.supervise.tools import read

POLICY = Policy((Route("docs.example.org", methods=("GET",), paths=("/v1",)),))


@pytest.mark.parametrize(
    "attempt",
    [
        Attempt("new.example.test", 8443),
        Attempt("93.184.216.34", 22),
        Attempt("docs.example.org", 443, "POST", "/v1?q=1"),
        Attempt("docs.example.org", 443, "GET", "/v2/" + "a" * 508),
        Attempt("docs.example.org", 443, "GET", "/a%20b/~x;y=1/"),
    ],
)
def test_the_tool_takes_what_the_denial_offers(attempt: Attempt) -> None:
    host, port, method, _ = attempt
    judged = decide_request(POLICY, *attempt) if method else decide_connect(POLICY, host, port)
    said = denial(attempt, judged.reason, judged.detail, judged.nearest, supervised=True)
    offered = cast("dict[str, Any]", said["error"])["proposal"]
    asked = read(EGRESS, {**offered, "justification": "the build needs it"})
    assert isinstance(asked, Asked)
    assert asked.route is not None
    policy = Policy((*POLICY.routes, asked.route))
    assert (decide_request(policy, *attempt) if method else decide_connect(policy, host, port)).allowed
