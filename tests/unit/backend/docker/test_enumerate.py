"""Which bottles the engine runs: what it lists is parsed strictly, and a bottle is whole or it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_bottle.backend.base import ActiveAgent
from claude_bottle.backend.docker import enumerate as listing
from claude_bottle.backend.docker.argv import Names
from claude_bottle.backend.docker.enumerate import (
    Container,
    active_agents,
    containers,
    home_id,
    is_whole,
    parse,
    query,
)
from claude_bottle.errors import BottleError
from claude_bottle.proc import environment_for
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, open_home
from tests.support.fake_runner import fake_runner, says

SLUG = "reviewer-00000"
AGENT = f"{SLUG}\tagent\trunning\tclaude-bottle-{SLUG}\n"
SIDECARS = f"{SLUG}\tsidecars\trunning\tclaude-bottle-sidecars-{SLUG}\n"
REFUSED = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def one(role: str, state: str = "running") -> Container:
    return Container(SLUG, role, state, f"claude-bottle-{role}-{SLUG}")


def test_what_the_client_says_is_what_was_asked_for() -> None:
    assert parse(AGENT + SIDECARS) == (
        Container(SLUG, "agent", "running", f"claude-bottle-{SLUG}"),
        Container(SLUG, "sidecars", "running", f"claude-bottle-sidecars-{SLUG}"),
    )
    assert parse("") == ()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("WARNING: Error loading config file", id="a-warning"),
        pytest.param("", id="blank"),
        pytest.param("\t\t\t", id="no-labels"),
        pytest.param(f"\tagent\trunning\tclaude-bottle-{SLUG}", id="no-slug"),
        pytest.param(f"{SLUG}\tagent\trunning", id="a-field-less"),
        pytest.param(f"{AGENT.strip()}\tmore", id="a-field-more"),
        pytest.param(AGENT.strip().replace("\t", " "), id="spaces"),
        pytest.param(f"reviewer\tagent\trunning\tclaude-bottle-{SLUG}", id="half-a-slug"),
        pytest.param(f"../{SLUG}\tagent\trunning\tclaude-bottle-{SLUG}", id="a-path"),
        pytest.param(f"--all-00000\tagent\trunning\tclaude-bottle-{SLUG}", id="an-option"),
        pytest.param(f"\x1b[2J{SLUG}\tagent\trunning\tclaude-bottle-{SLUG}", id="escapes"),
        pytest.param(f"Reviewer-00000\tagent\trunning\tclaude-bottle-{SLUG}", id="capitals"),
        pytest.param(f"reviewer-0000\u0665\tagent\trunning\tclaude-bottle-{SLUG}", id="foreign-digits"),
    ],
)
def test_a_line_that_is_not_ours_is_refused_with_all_the_others(line: str) -> None:
    with pytest.raises(BottleError, match="form that is not known"):
        parse(f"{AGENT}{line}\n{SIDECARS}")


@pytest.mark.parametrize("name", ["", "--help", "-f", "a b", "../x", "\x1b[2J", "a,b/c", "é"])
def test_a_name_that_no_engine_gives_is_refused(name: str) -> None:
    """It is handed to `docker rm` as it stands."""
    with pytest.raises(BottleError):
        parse(f"{SLUG}\tagent\trunning\t{name}\n")


def test_the_question_is_for_one_home_and_for_nothing_else(tmp_path: Path) -> None:
    argv = query("0123456789abcdef").argv
    assert argv[:3] == ("docker", "ps", "--all")
    filters = [argv[place + 1] for place, word in enumerate(argv) if word == "--filter"]
    assert filters == ["label=io.claude-bottle.home=0123456789abcdef"]
    argv = query("0123456789abcdef", SLUG).argv
    filters = [argv[place + 1] for place, word in enumerate(argv) if word == "--filter"]
    assert filters == [
        "label=io.claude-bottle.home=0123456789abcdef",
        f"label=io.claude-bottle.slug={SLUG}",
    ]


def test_the_labels_that_are_asked_for_are_those_that_are_given() -> None:
    given = dict(word.split("=", 1) for word in Names(SLUG, "0123456789abcdef").labels("agent")[1::2])
    asked = query("0123456789abcdef", SLUG)
    for word in asked.argv:
        if word.startswith("label="):
            name, value = word.removeprefix("label=").split("=", 1)
            assert given[name] == value
    form = asked.argv[asked.argv.index("--format") + 1].split("\t")
    names = ["io.claude-bottle.slug", "io.claude-bottle.role"]
    assert form == [*(f'{{{{.Label "{name}"}}}}' for name in names), "{{.State}}", "{{.Names}}"]
    assert given.keys() >= set(names)
    assert "ANTHROPIC_API_KEY" not in environment_for(asked, {"ANTHROPIC_API_KEY": "k"})


def test_every_home_has_an_id_of_its_own() -> None:
    roots = [Path("/srv/a"), Path("/srv/b"), Path("/srv/a/b"), Path("/")]
    assert len({home_id(root) for root in roots}) == len(roots)
    assert home_id(Path("/srv/a")) == home_id(Path("/srv") / "a")
    assert all(len(home_id(root)) == 16 and home_id(root).isalnum() for root in roots)


def test_an_engine_that_does_not_answer_is_an_error_and_no_empty_list() -> None:
    expected = query("0" * 16).argv
    with fake_runner((expected, says("", 1, f"warning\n{REFUSED}\n"))) as runner:
        with pytest.raises(BottleError, match="Is the docker daemon running"):
            containers(runner, "0" * 16)
    with fake_runner((expected, says(AGENT, 1, REFUSED))) as runner, pytest.raises(BottleError):
        containers(runner, "0" * 16)
    with fake_runner((query("0" * 16, SLUG).argv, says(AGENT))) as runner:
        assert containers(runner, "0" * 16, SLUG) == parse(AGENT)


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
    return open_home(Home(tmp_path / "home"))


def save(home: Home, slug: str) -> None:
    home.bottle(slug).root.mkdir()
    store.save(home, Metadata(slug, "reviewer", "plain", "docker", 7.5, "clone", "/srv/project", "d"))


def rows(home: Home, said: str) -> list[ActiveAgent]:
    with fake_runner((query(home_id(home.root)).argv, says(said))) as runner:
        return active_agents(runner, home.state)


def test_a_whole_bottle_is_a_row_with_its_services(home: Home) -> None:
    save(home, SLUG)
    assert rows(home, SIDECARS + AGENT) == [
        ActiveAgent(listing.NAME, SLUG, "reviewer", 7.5, ("egress", "firewall"))
    ]


def test_half_a_bottle_is_a_row_with_a_warning_and_without_services(home: Home) -> None:
    save(home, SLUG)
    for said in (AGENT, SIDECARS, AGENT + SIDECARS.replace("running", "exited")):
        (row,) = rows(home, said)
        assert (row.slug, row.services) == (SLUG, ())
        assert "not all of its containers run" in row.warning


def test_what_has_ended_is_no_row(home: Home) -> None:
    save(home, SLUG)
    assert rows(home, "") == []
    assert rows(home, (AGENT + SIDECARS).replace("running", "exited")) == []


def test_containers_without_a_state_folder_are_still_shown(home: Home) -> None:
    """Nothing that runs may be hidden because what is known of it is lost."""
    save(home, "other-00000")
    said = AGENT + SIDECARS + (AGENT + SIDECARS).replace("reviewer", "other")
    lost, fine = rows(home, said)
    assert (lost.slug, lost.agent_name, lost.warning) == (SLUG, "-", "no metadata.json")
    assert (fine.slug, fine.warning) == ("other-00000", "")
