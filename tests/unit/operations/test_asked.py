"""A proposal and its answer in a row, and as JSON."""

from __future__ import annotations

import json

import pytest

from claude_bottle.operations.asked import as_fields, as_json, asks
from claude_bottle.policy.live import Bounds
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    APPROVED,
    CAPABILITY,
    EGRESS,
    MODIFIED,
    REJECTED,
    URL,
    Answer,
    Asked,
    Proposal,
)
from claude_bottle.policy.proposals_json import proposal_to_json

ROUTE = Route("a.example.org", methods=("GET",))
AT = 1_800_000_000.0


def row(said: Answer | None, asked: Asked | None = None) -> tuple[str, ...]:
    return as_fields(Proposal("p-0123456789", asked or Asked(EGRESS, "why", ROUTE), AT, answer=said))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (Asked(EGRESS, "", ROUTE), "a.example.org"),
        (Asked(CAPABILITY, "", packages=("jq", "tree")), "jq tree"),
        (Asked(CAPABILITY, "", packages=("jq",), dockerfile="RUN a\nRUN b\n"), "jq 2 lines of a Dockerfile"),
        (Asked(URL, "", url="https://b.example/"), "https://b.example/"),
        (Asked(URL, ""), "nothing"),
    ],
)
def test_what_is_asked_for_is_one_line(asked: Asked, text: str) -> None:
    assert asks(asked).startswith(text)


@pytest.mark.parametrize(
    ("said", "state", "text"),
    [
        (None, "pending", "-"),
        (Answer(APPROVED, "d-1", AT, route=ROUTE), "approved", "d-1"),
        (
            Answer(APPROVED, "d-1", AT, route=ROUTE, bounds=Bounds(AT + 60, 3)),
            "approved",
            "d-1, until 2027-01-15T08:01:00Z, 3 uses",
        ),
        (Answer(REJECTED, "d-1", AT, "use the mirror"), "rejected", "d-1: use the mirror"),
        (Answer(MODIFIED, "d-1", AT, packages=("jq",)), "modified", "d-1, gives jq"),
        (Answer(APPROVED, "d-1", AT, bounds=Bounds(9e11, None)), "approved", "d-1, until 900000000000"),
    ],
)
def test_a_row_says_when_what_why_and_the_answer(said: Answer | None, state: str, text: str) -> None:
    found = row(said)
    assert found[:3] == ("2027-01-15T08:00:00Z", "p-0123456789", state)
    assert found[4:] == ("why", text)


def test_what_was_given_instead_is_named() -> None:
    given = row(Answer(MODIFIED, "d-1", AT, route=Route("other.example.org"), bounds=Bounds(None, 1)))
    assert given[5].startswith("d-1, gives other.example.org")
    assert given[5].endswith(", 1 use")


def test_a_long_justification_is_cut() -> None:
    assert row(None, Asked(EGRESS, "x" * 2000, ROUTE))[4] == "x" * 100


def test_json_is_all_of_it() -> None:
    item = Proposal("p-0123456789", Asked(EGRESS, "\u202ewhy", ROUTE), AT)
    found = json.loads(json.dumps(as_json(item)))
    assert found.pop("state") == "pending"
    assert found == json.loads(json.dumps(proposal_to_json(item)))
