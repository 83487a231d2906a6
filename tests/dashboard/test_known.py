"""What has been heard, put together."""

from __future__ import annotations

from claude_bottle.dashboard.known import Known
from claude_bottle.dashboard.looking import Counted, Looked, Trouble
from claude_bottle.dashboard.world import Launch, key_of
from claude_bottle.operations.numbers import Numbers
from claude_bottle.operations.proposals import Listing
from tests.support.dash import NOON, agent, asked

A, B = agent("a-1"), agent("b-2", backend="bubblewrap", started=NOON - 5)


def known(*news: object) -> Known:
    made = Known()
    for each in (Looked("docker", (A,), ()), Looked("bubblewrap", (B,), ()), *news):
        made.hear(each)  # type: ignore[arg-type]
    return made


def slugs(made: Known) -> list[str]:
    return [each.slug for each in made.world().agents]


def test_agents_stand_in_the_order_of_their_start() -> None:
    assert slugs(known()) == ["b-2", "a-1"]


def test_the_same_news_again_changes_nothing() -> None:
    made = known()
    assert not made.hear(Looked("docker", (A,), ()))
    assert made.hear(Looked("docker", (A._replace(status="working"),), ()))
    assert made.hear(Listing((asked("a-1", "0123456789"),), ()))
    assert not made.hear(Listing((asked("a-1", "0123456789"),), ()))


def test_a_broken_backend_takes_no_row_of_another_and_none_of_its_own() -> None:
    made = known(Trouble("docker", "the engine is gone"))
    assert slugs(made) == ["b-2", "a-1"]
    assert made.world().warnings == ("docker: the engine is gone",)
    made.hear(Looked("docker", (A,), ()))
    assert made.world().warnings == ()


def test_a_proposal_of_what_runs_no_more_does_not_wait() -> None:
    items = (asked("a-1", "0123456789"), asked("gone-9", "1123456789"))
    made = known(Listing(items, ()))
    assert [key_of(item) for item in made.world().proposals] == ["a-1/p-0123456789"]


def test_what_was_stopped_does_not_come_back_by_a_look_that_had_begun_before() -> None:
    made = known()
    made.ended("a-1")
    assert slugs(made) == ["b-2"]
    made.hear(Looked("docker", (A,), ()))
    assert slugs(made) == ["b-2"]
    made.hear(Looked("docker", (), ()))
    assert slugs(made) == ["b-2"]


def test_what_is_still_there_after_its_stop_shows_again() -> None:
    made = known()
    made.ended("a-1")
    for _ in range(3):
        made.hear(Looked("docker", (A,), ()))
    assert slugs(made) == ["b-2", "a-1"]


def test_what_was_answered_goes_at_once() -> None:
    made = known(Listing((asked("a-1", "0123456789"),), ()))
    made.answered("a-1/p-0123456789")
    assert made.world().proposals == ()
    made.hear(Listing((asked("a-1", "0123456789"),), ()))  # a look that had begun before
    assert made.world().proposals == ()


def test_what_still_waits_after_its_answer_shows_again() -> None:
    made = known()
    made.answered("a-1/p-0123456789")
    for _ in range(3):
        made.hear(Listing((asked("a-1", "0123456789"),), ()))
    assert made.world().proposals


def test_a_launch_gives_its_place_to_what_came_up() -> None:
    made = known()
    made.launching(Launch("+1", "c", "docker"))
    made.step("+1", "prepare 3 ms")
    assert made.world().launches[0].steps == ("prepare 3 ms",)
    made.launched("+1", "c-3")
    assert made.world().launches  # nobody has seen it yet
    made.hear(Looked("docker", (A, agent("c-3")), ()))
    assert made.world().launches == ()
    assert made.arrived == {"+1": "c-3"}


def test_what_came_up_and_is_never_seen_does_not_start_for_ever() -> None:
    made = known()
    made.launching(Launch("+1", "c", "docker"))
    made.launched("+1", "c-3")
    for _ in range(10):
        made.hear(Looked("docker", (A,), ()))
    assert made.world().launches == ()


def test_a_failed_launch_stays_until_it_was_seen_and_a_refused_one_does_not() -> None:
    made = known()
    made.launching(Launch("+1", "c", "docker"))
    made.not_launched("+1", "no image")
    assert made.world().launches[0].failure == "no image"
    made.forget("+1")
    assert made.world().launches == ()
    made.launching(Launch("+2", "c", "docker"))
    made.not_launched("+2", "")
    assert made.world().launches == ()


def test_numbers_are_those_of_their_agent() -> None:
    made = known(Counted({"a-1": Numbers(10, 2, 1)}))
    found = {each.slug: each.tokens for each in made.world().agents}
    assert found == {"a-1": 10, "b-2": None}


def test_before_anybody_has_looked_nothing_is_known() -> None:
    assert not Known().world().looked
    assert Known().world(["docker: no answer for 4 s"]).warnings == ("docker: no answer for 4 s",)
