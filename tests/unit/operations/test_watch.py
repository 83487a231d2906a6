"""From one look to the next: a line for each change, no agent gone that was only out of sight."""

from __future__ import annotations

import pytest

from claude_bottle.cli.watching import redrawn, table
from claude_bottle.operations.agents import ACTIVE, NOBODY, Row, Value
from claude_bottle.operations.watch import Picture, changes, picture_of


def row(slug: str, status: str = "idle", backend: str = "bubblewrap", **more: Value) -> Row:
    values: dict[str, Value] = {
        "backend": backend,
        "slug": slug,
        "agent": "reviewer",
        "services": ("egress", "firewall"),
        "status": status,
        "waiting_for": None,
        "down": (),
        **more,
    }
    return Row(tuple(values.items()), ACTIVE)


def silent(backend: str) -> Row:
    return row(NOBODY, "unknown", backend, agent="-", services=())


def line(slug: str, status: str, backend: str = "bubblewrap") -> tuple[str, ...]:
    return (backend, slug, "reviewer", "egress,firewall", status)


def told(*looks: list[Row]) -> list[list[tuple[str, ...]]]:
    """The lines of each look."""
    found, lines = Picture(), []
    for rows in looks:
        after = picture_of(found, rows, ())
        lines.append(changes(found, after)[0])
        found = after
    return lines


def test_only_what_has_changed_is_told() -> None:
    a, b = row("a-00000"), row("b-00000", "working")
    assert told([a, b], [a, b], [a, row("b-00000")], [a], []) == [
        [line("a-00000", "idle"), line("b-00000", "working")],
        [],
        [line("b-00000", "idle")],
        [line("b-00000", "gone")],
        [line("a-00000", "gone")],
    ]


def test_what_it_waits_for_and_what_is_down_stands_with_the_status() -> None:
    waits = row("a-00000", "waiting for input", waiting_for="permission prompt")
    down = row("a-00000", "degraded", waiting_for="permission prompt", down=("egress", "firewall"))
    assert told([waits], [down]) == [
        [line("a-00000", "waiting for input: permission prompt")],
        [line("a-00000", "degraded: egress, firewall down")],
    ]


def test_an_agent_of_a_backend_that_does_not_answer_is_not_gone() -> None:
    ours, theirs = row("a-00000"), row("b-00000", "working", "docker")
    assert told([ours, theirs], [silent("docker"), ours], [silent("docker"), ours], [ours, theirs]) == [
        [line("a-00000", "idle"), line("b-00000", "working", "docker")],
        [line("b-00000", "unknown", "docker")],
        [],
        [line("b-00000", "working", "docker")],
    ]


def test_an_agent_that_has_ended_is_gone_while_another_backend_is_silent() -> None:
    assert told([row("a-00000")], [silent("docker")])[-1] == [line("a-00000", "gone")]


def test_a_warning_is_told_once_until_it_has_gone() -> None:
    before = picture_of(Picture(), [], ["docker: slow"])
    assert changes(Picture(), before)[1] == ["docker: slow"]
    assert changes(before, picture_of(before, [], ["docker: slow"]))[1] == []
    calm = picture_of(before, [], [])
    assert changes(calm, picture_of(calm, [], ["docker: slow"]))[1] == ["docker: slow"]


HOSTILE = "\x1b]2;owned\x07\t\n\u202e"


def test_a_table_is_safe_and_fits_the_screen() -> None:
    rows = [row(f"{name}-00000", "idle", agent=HOSTILE + name * 80) for name in "abcdefgh"]
    found = picture_of(Picture(), rows, [HOSTILE])
    for width, height in ((200, 50), (40, 5), (1, 1), (79, 23)):
        lines = table(found, width, height)
        assert len(lines) <= height
        assert all(len(text) <= width for text in lines)
        assert not set("\x1b\x07\t\n\u202e") & set("".join(lines))
    assert "more" in table(found, 100, 5)[-1]


def test_an_empty_table_says_so() -> None:
    assert table(Picture(), 80, 24)[-1] == "nothing runs"


@pytest.mark.parametrize(("above", "start"), [(0, "\x1b[2K"), (3, "\x1b[3F\x1b[2K")])
def test_a_table_is_drawn_over_the_one_before(above: int, start: str) -> None:
    drawn = redrawn(above, ["one", "two"])
    assert drawn.startswith(start + "one\n")
    assert drawn.endswith("two\n\x1b[J")
