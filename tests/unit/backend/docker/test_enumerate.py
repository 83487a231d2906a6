"""Which bottles the engine runs: what it lists is parsed strictly, and a bottle is whole or it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend.base import ActiveAgent
from claude_bottle.backend.docker import enumerate as listing
from claude_bottle.backend.docker.api import EngineError
from claude_bottle.backend.docker.bodies import Names
from claude_bottle.backend.docker.enumerate import (
    Container,
    active_agents,
    containers,
    is_whole,
    parse,
)
from claude_bottle.errors import BottleError
from claude_bottle.state import store
from claude_bottle.state.identity import make_identity
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, open_home
from tests.support.fake_engine import fake_engine, refuses

SLUG = "reviewer-00000"
ASKED = ("GET", "/containers/json")


def item(role: str, name: str, state: str = "running", slug: str = SLUG) -> dict[str, Any]:
    labels = {"io.claude-bottle.slug": slug, "io.claude-bottle.role": role, "another": "label"}
    return {"Id": "0a", "Labels": labels, "State": state, "Names": [f"/{name}"], "Status": "Up 2 hours"}


AGENT = item("agent", f"claude-bottle-{SLUG}")
SIDECARS = item("sidecars", f"claude-bottle-sidecars-{SLUG}")


def ended(listed: dict[str, Any]) -> dict[str, Any]:
    return {**listed, "State": "exited"}


def one(role: str, state: str = "running") -> Container:
    return Container(SLUG, role, state, f"claude-bottle-{role}-{SLUG}")


def test_what_the_engine_says_is_what_was_asked_for() -> None:
    linked = {**SIDECARS, "Names": ["/other/alias", *SIDECARS["Names"]]}
    assert (
        parse([AGENT, SIDECARS])
        == parse([AGENT, linked])
        == (
            Container(SLUG, "agent", "running", f"claude-bottle-{SLUG}", "0a"),
            Container(SLUG, "sidecars", "running", f"claude-bottle-sidecars-{SLUG}", "0a"),
        )
    )
    assert parse([]) == ()


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in AGENT.items() if key != name}


@pytest.mark.parametrize(
    "listed",
    [
        *(7, None, True, {"message": "x"}, "text", [7], [None], [[]], [{}], ["text"]),
        *([without("Labels")], [without("State")], [without("Names")]),
        *([{**AGENT, "Labels": None}], [{**AGENT, "Labels": {}}], [{**AGENT, "Labels": []}]),
        *([{**AGENT, "Labels": "text"}], [{**AGENT, "State": 7}], [{**AGENT, "State": None}]),
        *([{**AGENT, "Names": None}], [{**AGENT, "Names": 7}], [{**AGENT, "Names": ["/a", "/b"]}]),
        *([{**AGENT, "Names": []}], [{**AGENT, "Names": ["/a/b"]}], [{**AGENT, "Names": [7]}]),
    ],
    ids=lambda listed: repr(listed)[:40],
)
def test_a_list_in_another_form_is_refused(listed: Any) -> None:
    with pytest.raises(BottleError, match="form that is not known"):
        parse(listed)
    if isinstance(listed, list):
        with pytest.raises(BottleError, match="form that is not known"):
            parse([AGENT, *listed, SIDECARS])


@pytest.mark.parametrize(
    "slug",
    [
        *("", "reviewer", f"../{SLUG}", "--all-00000", f"\x1b[2J{SLUG}", "Reviewer-00000"),
        *("reviewer-0000\u0665", f"{SLUG}\n", f" {SLUG}"),
    ],
)
def test_a_slug_that_is_none_is_refused_with_all_the_others(slug: str) -> None:
    with pytest.raises(BottleError, match="form that is not known"):
        parse([AGENT, item("agent", f"claude-bottle-{SLUG}", slug=slug), SIDECARS])


@pytest.mark.parametrize(
    "name", ["", "--help", "-f", "a b", "\x1b[2J", "a,b", "é", "a?b", "a\r\nb", "a#", "%2e"]
)
def test_a_name_that_no_engine_gives_is_refused(name: str) -> None:
    """It becomes part of a question as it stands."""
    with pytest.raises(BottleError):
        parse([item("agent", name)])


def test_the_question_is_for_one_home_and_for_nothing_else() -> None:
    home = "label", ["io.claude-bottle.home=0123456789abcdef"]
    with fake_engine(((*ASKED, {"all": "1", "filters": dict([home])}), [])) as engine:
        assert containers(engine, "0123456789abcdef") == ()
    labels = [*home[1], f"io.claude-bottle.slug={SLUG}"]
    with fake_engine(((*ASKED, {"all": "1", "filters": {"label": labels}}), [AGENT])) as engine:
        assert containers(engine, "0123456789abcdef", SLUG) == parse([AGENT])
    assert engine.questions[0].timeout == 10


def test_the_labels_that_are_asked_for_are_those_that_are_given() -> None:
    given = Names(SLUG, "0123456789abcdef").labels("agent")
    with fake_engine((ASKED, [])) as engine:
        containers(engine, "0123456789abcdef", SLUG)
    filters = engine.questions[0].query["filters"]
    assert isinstance(filters, dict)
    assert set(filters["label"]) <= {f"{name}={value}" for name, value in given.items()}
    assert given.keys() >= {"io.claude-bottle.slug", "io.claude-bottle.role"}
    assert parse([{**AGENT, "Labels": given}]) == parse([AGENT])


def test_an_engine_that_does_not_answer_is_an_error_and_no_empty_list() -> None:
    for answer in (refuses(0, "no engine"), refuses(404), refuses(500), b"", b"["):
        with fake_engine((ASKED, answer)) as engine, pytest.raises(EngineError):
            containers(engine, "0" * 16)


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        *(("running", True), ("paused", True), ("restarting", True)),
        *(("created", False), ("exited", False), ("dead", False), ("removing", False)),
    ],
)
def test_what_runs_and_what_does_not(state: str, runs: bool) -> None:
    assert one("agent", state).runs == runs
    assert is_whole([one("agent", state), one("sidecars")]) == runs
    assert is_whole([one("agent"), one("sidecars", state)]) == runs


@pytest.mark.parametrize(
    "found",
    [
        pytest.param([], id="nothing"),
        pytest.param([one("agent")], id="agent-alone"),
        pytest.param([one("sidecars")], id="sidecars-alone"),
        pytest.param([one("agent"), one("helper")], id="helper"),
        pytest.param([one("agent"), one("agent")], id="twice"),
        pytest.param([one("agent"), one("Sidecars")], id="another-role"),
        pytest.param([one("agent"), one("")], id="no-role"),
    ],
)
def test_a_part_of_a_bottle_is_no_bottle(found: list[Container]) -> None:
    assert not is_whole(found)


def test_more_than_a_whole_bottle_is_whole() -> None:
    assert is_whole([one("helper"), one("sidecars"), one("agent"), one("agent", "exited")])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = open_home(Home(tmp_path / "home"))
    make_identity(home.root)
    return home


def save(home: Home, slug: str) -> None:
    home.bottle(slug).root.mkdir()
    store.save(home, Metadata(slug, "reviewer", "plain", "docker", 7.5, "clone", "/srv/project", "d"))


def rows(home: Home, *listed: dict[str, Any]) -> list[ActiveAgent]:
    with fake_engine((ASKED, list(listed))) as engine:
        return active_agents(engine, home.state)


def test_a_whole_bottle_is_a_row_with_its_services(home: Home) -> None:
    save(home, SLUG)
    assert rows(home, SIDECARS, AGENT) == [
        ActiveAgent(listing.NAME, SLUG, "reviewer", 7.5, ("egress", "firewall"))
    ]


def test_half_a_bottle_is_a_row_with_a_warning_and_without_services(home: Home) -> None:
    save(home, SLUG)
    for said in ([AGENT], [SIDECARS], [AGENT, ended(SIDECARS)]):
        (row,) = rows(home, *said)
        assert (row.slug, row.services) == (SLUG, ())
        assert "not all of its containers run" in row.warning


def test_what_has_ended_is_no_row(home: Home) -> None:
    save(home, SLUG)
    assert rows(home) == []
    assert rows(home, ended(AGENT), ended(SIDECARS)) == []


def test_containers_without_a_state_folder_are_still_shown(home: Home) -> None:
    """Nothing that runs may be hidden because what is known of it is lost."""
    save(home, "other-00000")
    other = [
        item(role, f"claude-bottle-{role}-other-00000", slug="other-00000") for role in ("agent", "sidecars")
    ]
    lost, fine = rows(home, AGENT, SIDECARS, *other)
    assert (lost.slug, lost.agent_name, lost.warning) == (SLUG, "-", "no metadata.json")
    assert (fine.slug, fine.warning) == ("other-00000", "")


def test_a_home_without_identity_has_no_rows_but_an_error(home: Home) -> None:
    """Nothing of it can be told from what is another home's."""
    (home.root / "identity").unlink()
    with fake_engine() as engine, pytest.raises(BottleError, match="identity is gone"):
        active_agents(engine, home.state)
