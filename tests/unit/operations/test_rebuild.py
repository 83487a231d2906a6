"""What a bottle may reach after a rebuild, and what its agent is told."""

from __future__ import annotations

import pytest

from claude_bottle.operations.preflight import describe_route
from claude_bottle.operations.rebuild import carried, fault, message, refusal
from claude_bottle.policy.additions import Additions
from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute, live
from claude_bottle.policy.model import Policy, Route
from claude_bottle.state.metadata import Metadata

KEPT, TAKEN, NEW = (Route(f"{name}.example.org", origin="dev.md:3") for name in ("kept", "taken", "new"))
GRANT = LiveRoute(Route("granted.example.org"), Bounds(until=100.0, uses=2), "d-1")
DOCKER = Metadata("a-00000", "a", "dev", "docker", 1.0, "none", "/", "digest")


def test_grants_go_on_and_what_was_taken_away_stays_away() -> None:
    before = LivePolicy((LiveRoute(KEPT), GRANT), 7)
    after = carried(before, live(Policy((KEPT, TAKEN))), frozenset())
    assert after.routes == (LiveRoute(KEPT), GRANT)


def test_a_rule_that_has_moved_in_its_file_is_the_same_rule() -> None:
    before = LivePolicy((LiveRoute(KEPT),))
    moved = KEPT._replace(origin="dev.md:9")
    assert carried(before, live(Policy((moved,))), frozenset()).routes == (LiveRoute(moved),)


def test_what_the_manifest_says_more_by_now_comes_only_where_it_was_agreed_to() -> None:
    before, now = LivePolicy((LiveRoute(KEPT),)), live(Policy((KEPT, NEW)))
    assert carried(before, now, frozenset()).routes == (LiveRoute(KEPT),)
    assert carried(before, now, frozenset({describe_route(NEW)})).routes == (LiveRoute(KEPT), LiveRoute(NEW))


def test_a_grant_is_no_rule_of_the_manifest() -> None:
    """What an approval has given for a while does not come back for good from a manifest that has it."""
    before = LivePolicy((LiveRoute(NEW, Bounds(uses=1), "d-1"),))
    assert carried(before, live(Policy((NEW,))), frozenset()).routes == before.routes


def test_the_agent_is_told_what_has_changed() -> None:
    assert "was rebuilt with packages jq tree and RUN a." in message(Additions(("jq", "tree"), "RUN a"), "")
    assert "could not be rebuilt with packages jq: no room." in message(Additions(("jq",)), "no room")


@pytest.mark.parametrize(
    ("backend", "wanted", "why"),
    [
        ("docker", Additions(("jq",)), ""),
        ("docker", Additions(dockerfile="FROM x"), "only RUN"),
        ("bubblewrap", Additions(("jq",)), "no image"),
    ],
)
def test_what_cannot_be_added_is_said_before(backend: str, wanted: Additions, why: str) -> None:
    metadata = DOCKER._replace(backend=backend)
    found = fault(metadata, wanted)
    assert why in found
    assert bool(found) is bool(why)
    assert (refusal(metadata) is None) is (backend == "docker")
