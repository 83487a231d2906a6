"""What may be granted of what an agent asks, and how it is named; the plans alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.errors import BottleError, NotFoundError, UsageError
from claude_bottle.operations import proposals
from claude_bottle.operations.context import Context
from claude_bottle.operations.deciding import Seen
from claude_bottle.operations.modifying import read, text_of
from claude_bottle.operations.proposals import Given, Listing, Terms, Waiting, find, granting, rejecting
from claude_bottle.policy.live import LivePolicy, LiveRoute
from claude_bottle.policy.model import Auth, Route, SecretRef, Upstream
from claude_bottle.policy.proposals import CAPABILITY, EGRESS, Answer, Asked, Proposal, Queue
from claude_bottle.proc import SystemRunner
from claude_bottle.state.paths import Home

ROUTE = Route("new.example.org", methods=("GET",))
IDENT = "p-0123456789"


def seen(asked: Asked, *routes: LiveRoute, answer: Answer | None = None) -> Seen:
    return Seen(LivePolicy(routes, 7), Queue((Proposal(IDENT, asked, 1.0, answer=answer),)), 1000.0)


def test_a_grant_stands_behind_what_is_there_with_its_bounds_and_its_decision() -> None:
    other = LiveRoute(Route("old.example.org"))
    made = granting(IDENT, Terms(60.0, 3))(seen(Asked(EGRESS, "why", ROUTE), other), "d-1")
    assert made.live is not None
    first, grant = made.live.routes
    assert first == other
    assert grant.route == ROUTE._replace(origin=f"proposal {IDENT}")
    assert (grant.bounds, grant.grant) == ((1060.0, 3), "d-1")
    ((ident, said),) = made.answers
    assert (ident, said.state, said.decision, said.bounds) == (IDENT, "approved", "d-1", grant.bounds)
    assert made.told["answer"] == "approved"


def test_what_is_allowed_already_is_only_answered() -> None:
    made = granting(IDENT, Terms())(seen(Asked(EGRESS, "why", ROUTE), LiveRoute(ROUTE)), "d-1")
    assert made.live is None
    assert made.answers[0][1].state == "approved"


@pytest.mark.parametrize(
    "route",
    [
        ROUTE._replace(auth=Auth("bearer", SecretRef("env", ("HOME",)))),
        ROUTE._replace(upstream=Upstream("http", "127.0.0.1", 80)),
        ROUTE._replace(host="*.example.org"),
        Route("10.0.0.1", inspect=False),
        Route("127.0.0.1", inspect=False),
        None,
    ],
)
def test_what_only_an_operator_gives_is_not_had_by_asking(route: Route | None) -> None:
    """Also where the sidecar that should have refused it did not."""
    with pytest.raises(BottleError):
        granting(IDENT, Terms())(seen(Asked(EGRESS, "why", route)), "d-1")


def test_an_operator_may_give_all_of_that_and_it_counts_as_modified() -> None:
    given = Given(ROUTE._replace(host="*.example.org"))
    made = granting(IDENT, Terms(), given)(seen(Asked(EGRESS, "why", ROUTE)), "d-1")
    assert made.answers[0][1].state == "modified"


GATEWAY = Upstream("http", "127.0.0.1", 8080)


def test_what_is_asked_of_a_host_with_a_way_of_its_own_goes_that_way() -> None:
    """Else the proposal that a denial on such a host offers could never be approved."""
    own = LiveRoute(Route("new.example.org", methods=("GET",), paths=("/v1",), upstream=GATEWAY))
    made = granting(IDENT, Terms())(seen(Asked(EGRESS, "why", ROUTE), own), "d-1")
    assert made.live is not None
    assert made.live.routes[1].route.upstream == GATEWAY
    ((_, said),) = made.answers
    assert said.route is not None
    assert (said.state, said.route.upstream) == ("approved", GATEWAY)
    narrower = Given(ROUTE._replace(paths=("/v2",)))
    made = granting(IDENT, Terms(), narrower)(seen(Asked(EGRESS, "why", ROUTE), own), "d-1")
    assert made.live is not None
    assert made.live.routes[1].route.upstream == GATEWAY


@pytest.mark.parametrize(
    "asked", [ROUTE._replace(ports=(443, 8443)), Route("new.example.org", inspect=False)]
)
def test_it_takes_no_other_port_and_no_tunnel_along(asked: Route) -> None:
    own = LiveRoute(Route("new.example.org", paths=("/v1",), upstream=GATEWAY))
    with pytest.raises(UsageError, match="differs in `inspect` or `upstream`"):
        granting(IDENT, Terms())(seen(Asked(EGRESS, "why", asked), own), "d-1")


def test_a_second_answer_is_refused_and_says_which_decision_stands() -> None:
    first = Answer("rejected", "d-0", 5.0)
    for plan in (granting(IDENT, Terms()), rejecting(IDENT, "")):
        with pytest.raises(BottleError, match=r"was rejected already, by decision d-0") as raised:
            plan(seen(Asked(EGRESS, "why", ROUTE), answer=first), "d-1")
        assert raised.value.exit_code == 1


def test_a_rejection_changes_no_rule() -> None:
    made = rejecting(IDENT, "no")(seen(Asked(EGRESS, "why", ROUTE)), "d-1")
    assert made.live is None
    assert (made.answers[0][1].state, made.answers[0][1].reason) == ("rejected", "no")
    with pytest.raises(UsageError):
        rejecting(IDENT, "x" * 2001)


def test_packages_are_granted_as_asked_or_as_given() -> None:
    asked = Asked(CAPABILITY, "why", packages=("jq",), dockerfile="RUN true")
    made = granting(IDENT, Terms())(seen(asked), "d-1").answers[0][1]
    assert (made.state, made.packages, made.dockerfile) == ("approved", ("jq",), "RUN true")
    made = granting(IDENT, Terms(), Given(None, ("yq",)))(seen(asked), "d-1").answers[0][1]
    assert (made.state, made.packages, made.dockerfile) == ("modified", ("yq",), "")


def waiting(ident: str, slug: str = "a-12345", asked: Asked | None = None) -> Waiting:
    return Waiting(slug, "a", "bubblewrap", Proposal(ident, asked or Asked(EGRESS, "why", ROUTE), 1.0))


KNOWN = (
    waiting("p-aaaa000001"),
    waiting("p-aaaa000002"),
    waiting("p-bbbb000001"),
    waiting("p-bbbb000001", "b-12345"),
)


@pytest.mark.parametrize(
    ("ident", "found"),
    [
        ("p-aaaa000001", KNOWN[0]),
        ("aaaa000002", KNOWN[1]),
        ("p-aaaa000002", KNOWN[1]),
        ("b-12345/p-bbbb", KNOWN[3]),
        ("a-12345/bbbb000001", KNOWN[2]),
    ],
)
def test_a_proposal_is_found_by_its_beginning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ident: str, found: Waiting
) -> None:
    assert find(known(monkeypatch, tmp_path), ident) is found


@pytest.mark.parametrize(
    ("ident", "error"),
    [
        ("p-aaaa", UsageError),
        ("bbbb000001", UsageError),
        ("aaa", UsageError),
        ("", UsageError),
        ("p-", UsageError),
        ("cccc", NotFoundError),
        ("c-12345/aaaa000001", NotFoundError),
        ("....", NotFoundError),
    ],
)
def test_what_may_be_several_or_none_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ident: str, error: type[BottleError]
) -> None:
    with pytest.raises(error):
        find(known(monkeypatch, tmp_path), ident)


def known(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Context:
    monkeypatch.setattr(proposals, "listing", lambda context, **_: Listing(KNOWN, ()))
    return Context(Home(folder), SystemRunner({}), {}, folder)


@pytest.mark.parametrize(
    "asked",
    [
        Asked(EGRESS, "why \x1b[31m\n---\nroutes: []", ROUTE),
        Asked(
            EGRESS,
            "why",
            Route("a.example.org", ports=(443, 8443), paths=("/a b: [", "/#")[:0], inspect=False),
        ),
        Asked(CAPABILITY, "why\nnot: yaml", packages=("jq", "g++"), dockerfile="RUN a\n# b\nRUN 'c: d'"),
    ],
)
def test_a_proposal_that_an_editor_leaves_alone_comes_back_the_same(asked: Asked) -> None:
    item = waiting(IDENT, asked=asked)
    text = text_of(item)
    assert "\x1b" not in text
    assert read(text, "x.yaml", item.proposal) == proposals.asked_for(item.proposal)


@pytest.mark.parametrize(
    "text",
    [
        "packages: [a b]",
        "packages: x",
        "dockerfile: 5",
        "other: 1",
        "- x",
        "packages: [-rf]",
        "packages: [[[",
    ],
)
def test_what_is_no_addition_is_refused(text: str) -> None:
    item = waiting(IDENT, asked=Asked(CAPABILITY, "why", packages=("jq",)))
    with pytest.raises(BottleError):
        read(text, "x.yaml", item.proposal)
