"""What stands in a row, and which columns fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from claude_bottle.dashboard import rows
from claude_bottle.dashboard.keys import AGENTS, PROPOSALS, Facts
from claude_bottle.dashboard.rows import AGENT_COLUMNS, Column, Part, Row, widths
from claude_bottle.dashboard.world import Launch, World
from tests.support.dash import NOON, agent, asked

HOSTILE = "\x1b[31m[red]evil[/]\u202e\x07\n\t" + "宽" * 30


def says(row: Row) -> dict[str, str]:
    return {column.name: cell.text for column, cell in zip(AGENT_COLUMNS, row.cells, strict=True)}


def test_an_agent_says_what_it_is_and_does() -> None:
    whole = agent(
        "reviewer-ab12x", status="working", branch="main", tokens=12_345, added=12, removed=3, approvals=2
    )
    found = says(rows.agent_row(whole))
    assert found["backend"] == "[docker]"
    assert found["slug"] == "reviewer-ab12x"
    assert found["agent"] == "reviewer"
    assert len(found["started"].split(":")) == 3
    assert found["status"] == "working"
    assert found["asks"] == "2 asks"
    assert found["changes"] == "+12 -3"
    assert found["tokens"] == "12.3k"
    assert found["branch"] == "main"
    assert found["sidecars"] == "[egress,firewall,supervise]"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"services": ()}, "(starting)"),
        ({"status": "waiting for input", "waiting_for": "permission prompt"}, "waiting: permission prompt"),
        ({"status": "degraded", "down": ("firewall",)}, "degraded: firewall down"),
        ({"status": "exited"}, "exited"),
        ({"status": "unknown"}, "unknown"),
    ],
)
def test_a_state_is_said_in_words(more: dict[str, object], status: str) -> None:
    assert says(rows.agent_row(agent("a-1", **more)))["status"] == status


def test_what_is_not_known_is_not_shown_as_nothing() -> None:
    found = says(rows.agent_row(agent("a-1", approvals=None)))
    assert found["asks"] == "?"
    assert found["tokens"] == found["changes"] == ""


def test_what_comes_up_shows_its_last_step_and_what_did_not_why() -> None:
    coming = Launch("+1", "reviewer", "docker", ("prepare 3 ms", "containers 400 ms"))
    assert says(rows.launch_row(coming))["status"] == "(starting) containers 400 ms"
    assert says(rows.launch_row(coming._replace(failure="no image")))["status"] == "failed: no image"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (99_949, "99.9k"), (99_950, "100k"), (999_499, "999k"), (999_500, "1.0M"),
     (1_234_567, "1.2M"), (10**12, ">999G"), (10**400, ">999G")],
)  # fmt: skip
def test_a_number_is_short(number: int, text: str) -> None:
    assert rows.amount(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "<1m"), (59, "<1m"), (60, "1m"), (7300, "2h"), (86400 * 3, "3d")]
)
def test_an_age_is_one_word(seconds: float, text: str) -> None:
    assert rows.age(seconds) == text


def test_a_time_that_there_is_not_is_left_out() -> None:
    assert rows.clock(1e30) == ""
    assert rows.clock(float("nan")) == ""


COLUMNS = (
    Column("a", 10),
    Column("b", 10, last=1),
    Column("c", 10, takes_rest=True),
    Column("d", 10, last=2),
)


@pytest.mark.parametrize(
    ("available", "found"),
    [(60, (3, 4, 46, 4)), (17, (3, 4, 3, 4)), (16, (3, 4, 7, 0)), (12, (3, 4, 3, 0)), (11, (3, 0, 7, 0)), (2, (3, 0, 0, 0))],
)  # fmt: skip
def test_columns_go_one_after_the_other_where_it_is_narrow(available: int, found: tuple[int, ...]) -> None:
    row = Row("k", (Part("aaa"), Part("bbbb"), Part("ccc"), Part("dddd")))
    assert widths(COLUMNS, [row], available) == found


@given(st.text(max_size=60), st.integers(20, 300))
def test_no_row_is_wider_than_its_place(text: str, available: int) -> None:
    found = [rows.agent_row(agent("reviewer-ab12x", name=text, branch=text, waiting_for=text))]
    taken = [width for width in widths(AGENT_COLUMNS, found, available) if width]
    assert sum(taken) + len(taken) - 1 <= max(available, 14 + 28 + 2)


def test_hostile_words_are_harmless_in_every_field() -> None:
    bad = agent(
        HOSTILE,
        backend=HOSTILE,
        name=HOSTILE,
        services=(HOSTILE,),
        down=(HOSTILE,),
        branch=HOSTILE,
        waiting_for=HOSTILE,
    )
    waiting = asked("reviewer-ab12x", "0123456789", why=HOSTILE)._replace(slug=HOSTILE)
    world = World(
        (bad,), (waiting,), (Launch("+", HOSTILE, HOSTILE, (HOSTILE,), HOSTILE),), (HOSTILE,), looked=True
    )
    found = [
        rows.agent_row(bad),
        *rows.proposal_rows(world.proposals, NOON),
        rows.launch_row(world.launches[0]),
    ]
    parts = [cell for row in found for cell in row.cells]
    parts += rows.header(world)
    parts += [rows.about(Facts(AGENTS, agent=bad)), rows.about(Facts(PROPOSALS, proposal=waiting))]
    parts += rows.title(AGENTS, 1, HOSTILE, focused=True)
    for part in parts:
        assert part.text.isprintable(), part
        assert "\u202e" not in part.text


def test_the_header_counts_what_wants_the_operator() -> None:
    world = World(
        (
            agent("a-1", status="working"),
            agent("b-2", status="waiting for input"),
            agent("c-3", down=("egress",)),
        ),
        (asked("a-1", "0123456789"),),
        warnings=("docker: no answer for 4 s", "more"),
        looked=True,
    )
    assert [part.text for part in rows.header(world)] == [
        "1 proposal", "3 agents", "1 waiting for you", "1 degraded", "docker: no answer for 4 s (and 1 more)", "1 working",
    ]  # fmt: skip
    assert [part.text for part in rows.header(World())] == ["looking…"]


def test_rows_are_filtered_by_letters_anywhere_in_them() -> None:
    found = [
        rows.agent_row(agent("reviewer-ab12x")),
        rows.agent_row(agent("builder-zz9zz", branch="Fix-Docs")),
    ]
    assert [row.key for row in rows.matching(found, "DOCS")] == ["builder-zz9zz"]
    assert len(rows.matching(found, "docker")) == 2
    assert rows.matching(found, "nothing") == []


def test_wide_characters_count_as_two() -> None:
    row = rows.agent_row(agent("a-1", branch="宽宽"))
    at = [column.name for column in AGENT_COLUMNS].index("branch")
    assert widths(AGENT_COLUMNS, [row], 200)[at] == cell_len("宽宽") == 4
