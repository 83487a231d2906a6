"""What an agent is told: every state in words that say what to do, and the same as data."""

from __future__ import annotations

import json

import pytest

from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute
from claude_bottle.policy.model import Auth, Route, SecretRef, Upstream
from claude_bottle.policy.proposals import (
    APPROVED,
    CAPABILITY,
    EGRESS,
    EXPIRED,
    MODIFIED,
    REJECTED,
    Answer,
    Asked,
    Proposal,
)
from claude_bottle.sidecars.supervise import answers

NOON = 1_900_000_000.0  # 2030-03-17T17:46:40Z
ASKED = Asked(EGRESS, "why", Route("new.example.org", methods=("GET", "POST")))


def told(said: Answer | None, asked: Asked = ASKED) -> tuple[str, dict[str, object]]:
    result = answers.of_proposal(Proposal("p-0123456789", asked, NOON, answer=said))
    text, data = result["content"][0]["text"], result["structuredContent"]  # type: ignore[index]
    assert (result["isError"], data.pop("message")) == (False, text)
    return text, data


def test_approved_says_what_and_until_when() -> None:
    said = Answer(APPROVED, "d-1", NOON, "be quick", ASKED.route, Bounds(NOON, 3))
    text, data = told(said)
    for word in ("Approved: new.example.org, GET, POST", "until 2030-03-17T17:46:40Z", "3 uses", "be quick"):
        assert word in text
    assert (data["state"], data["until"], data["uses"]) == ("approved", "2030-03-17T17:46:40Z", 3)
    assert data["route"] == {
        "host": "new.example.org",
        "ports": [443],
        "methods": ["GET", "POST"],
        "paths": [],
        "inspect": True,
    }


def test_modified_says_what_changed_and_nothing_else() -> None:
    granted = Route("new.example.org", methods=("GET",), paths=("/v1",))
    text, data = told(Answer(MODIFIED, "d-1", NOON, "", granted))
    assert "methods: GET instead of GET, POST; paths: /v1 instead of any" in text
    assert "ports" not in text
    assert data["state"] == "modified"


def test_only_other_bounds_is_a_modification_too() -> None:
    assert "of its bounds" in told(Answer(MODIFIED, "d-1", NOON, "", ASKED.route, Bounds(NOON)))[0]


def test_rejected_and_expired_say_why_and_how_to_go_on() -> None:
    text, data = told(Answer(REJECTED, "d-1", NOON, "use the mirror"))
    assert "Rejected (p-0123456789). The operator says: use the mirror Go on without it." in text
    assert (data["state"], data["reason"]) == ("rejected", "use the mirror")
    assert "nobody answered" in told(Answer(EXPIRED, "d-1", NOON))[0]


def test_pending_names_the_way_to_ask_again() -> None:
    text, data = told(None)
    assert data == {"id": "p-0123456789", "state": "pending"}
    assert "check-proposal" in text
    assert "p-0123456789" in text


def test_a_capability_is_told_before_the_bottle_is_rebuilt() -> None:
    asked = Asked(CAPABILITY, "why", packages=("jq", "tree"))
    text, data = told(Answer(MODIFIED, "d-1", NOON, packages=("jq",)), asked)
    assert "packages: jq instead of jq, tree" in text
    assert "rebuilt; you will be resumed" in text
    assert data["packages"] == ["jq"]


SECRET = Auth("bearer", SecretRef("env", ("PRIVATE_TOKEN",)))
LIVE = LivePolicy(
    (
        LiveRoute(
            Route(
                "api.example.org",
                auth=SECRET,
                upstream=Upstream("http", "10.9.8.7", 80),
                origin="/home/operator/bottle.md:3",
            )
        ),
        LiveRoute(Route("*.wild.example.org")),
        LiveRoute(Route("over.example.org"), Bounds(NOON - 1), "d-2"),
        LiveRoute(Route("used.example.org"), Bounds(None, 0), "d-3"),
        LiveRoute(Route("soon.example.org", inspect=False), Bounds(NOON + 60, 2), "d-4"),
    ),
    7,
)


def test_the_list_is_what_is_in_force_and_holds_no_secret() -> None:
    result = answers.of_routes(LIVE, NOON)
    data = result["structuredContent"]
    listed = [item["host"] for item in data["routes"]]  # type: ignore[index]
    assert listed == ["api.example.org", "*.wild.example.org", "soon.example.org"]
    text = json.dumps(result)
    for word in ("PRIVATE_TOKEN", "bearer", "10.9.8.7", "operator", "d-4", "d-2"):
        assert word not in text
    assert "opaque tunnel; until 2030-03-17T17:47:40Z; 2 uses" in text


@pytest.mark.parametrize(("host", "count"), [("a.wild.example.org", 1), ("wild.example.org", 0)])
def test_the_list_for_one_host(host: str, count: int) -> None:
    data = answers.of_routes(LIVE, NOON, host)["structuredContent"]
    assert len(data["routes"]) == count  # type: ignore[index]


def test_a_long_list_is_cut_and_says_so() -> None:
    many = LivePolicy(tuple(LiveRoute(Route(f"h{number}.example.org")) for number in range(4000)))
    result = answers.of_routes(many, NOON)
    assert "and 3800 more" in str(result["content"])
    assert len(json.dumps(result)) < 64_000


def test_a_time_beyond_every_calendar_is_still_told() -> None:
    assert "9999" in told(Answer(APPROVED, "d-1", NOON, "", ASKED.route, Bounds(9e11)))[0]
