"""When a bottle is asked for its proposals again, and what is listed of one that does not answer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from claude_bottle.backend.base import BottleBackend
from claude_bottle.operations import asking, proposals
from claude_bottle.operations.asking import Asking
from claude_bottle.operations.context import Context
from claude_bottle.operations.hint import Glimpse
from claude_bottle.operations.proposals import Listing, Said, Waiting, Whose
from claude_bottle.policy.proposals import URL, Answer, Asked, Proposal
from claude_bottle.proc import SystemRunner
from claude_bottle.state.paths import Home
from claude_bottle.state.traces import Trace


def waiting(slug: str, at: float, answer: Answer | None = None) -> Waiting:
    return Waiting(
        slug, "agent", "bubblewrap", Proposal(f"p-{at:010.0f}", Asked(URL, "why"), at, answer=answer)
    )


def test_only_news_or_a_while_calls_for_asking() -> None:
    file = Trace(1, 2, 3, 4)
    before = Glimpse(file, 100.0)
    assert Glimpse(file, 100.0).calls_for_asking(None, 15.0)
    assert not Glimpse(file, 114.0).calls_for_asking(before, 15.0)
    assert Glimpse(file, 115.0).calls_for_asking(before, 15.0)
    assert Glimpse(file._replace(written=5), 101.0).calls_for_asking(before, 15.0)
    assert Glimpse(None, 101.0).calls_for_asking(before, 15.0)


def test_the_oldest_comes_first_and_what_is_answered_only_where_asked_for() -> None:
    said = [
        Said((waiting("b-00000", 3.0), waiting("b-00000", 1.0))),
        Said((), "c-00000: no answer"),
        Said((waiting("a-00000", 2.0, Answer("rejected", "d-1", 2.5)), waiting("a-00000", 4.0))),
    ]
    found = proposals.listed(said, ["docker: gone"])
    assert [item.proposal.at for item in found.items] == [1.0, 3.0, 4.0]
    assert found.warnings == ("docker: gone", "c-00000: no answer")
    assert [item.proposal.at for item in proposals.listed(said, answered=True).items] == [1.0, 2.0, 3.0, 4.0]


class Bottles:
    """Bottles that say what they are told to, and how often each was asked."""

    def __init__(self) -> None:
        self.says: dict[str, Said] = {}
        self.asked: list[str] = []
        self.now = 0.0

    def answer(self, _: Context, bottles: list[Whose], seconds: float) -> dict[str, Said]:
        assert seconds > 0
        self.asked += [whose.slug for whose in bottles]
        return {whose.slug: self.says[whose.slug] for whose in bottles}


@pytest.fixture
def bottles(monkeypatch: pytest.MonkeyPatch) -> Bottles:
    made = Bottles()
    monkeypatch.setattr(asking, "ask_all", made.answer)
    monkeypatch.setattr("claude_bottle.operations.hint.time.monotonic", lambda: made.now)
    monkeypatch.setattr("claude_bottle.operations.asking.time.monotonic", lambda: made.now)
    return made


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Home(tmp_path), SystemRunner({}), {}, tmp_path)


ROWS = [("a-00000", "agent", "bubblewrap"), ("b-00000", "agent", "bubblewrap")]


def write(context: Context, slug: str, text: str) -> None:
    file = context.home.bottle(slug).proposals
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_bottle_without_news_is_left_alone_for_a_while(bottles: Bottles, context: Context) -> None:
    bottles.says = {slug: Said((waiting(slug, 1.0),)) for slug, _, _ in ROWS}
    keeper = Asking(context)
    first = keeper.look(ROWS)
    assert [item.slug for item in first.items] == ["a-00000", "b-00000"]
    assert keeper.look(ROWS) == first
    assert bottles.asked == ["a-00000", "b-00000"]
    write(context, "b-00000", "anything")
    bottles.says["b-00000"] = Said()
    assert [item.slug for item in keeper.look(ROWS).items] == ["a-00000"]
    assert bottles.asked == ["a-00000", "b-00000", "b-00000"]
    bottles.now = 15.0
    keeper.look(ROWS)
    assert bottles.asked[3:] == ["a-00000", "b-00000"]


def test_where_the_file_is_not_at_hand_it_is_asked_more_often(
    bottles: Bottles, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BottleBackend, "logs_at_hand", lambda self, paths: False)
    bottles.says = {"a-00000": Said()}
    keeper = Asking(context)
    for bottles.now in (0.0, 4.0, 5.0, 9.0, 10.0):
        keeper.look(ROWS[:1])
    assert len(bottles.asked) == 3


def test_what_does_not_answer_has_no_proposals_but_a_warning(bottles: Bottles, context: Context) -> None:
    bottles.says = {slug: Said((waiting(slug, 1.0),)) for slug, _, _ in ROWS}
    keeper = Asking(context)
    keeper.look(ROWS)
    write(context, "a-00000", "anything")
    bottles.says["a-00000"] = Said((), "a-00000: no answer")
    assert keeper.look(ROWS) == Listing((waiting("b-00000", 1.0),), ("a-00000: no answer",))
    bottles.says["a-00000"] = Said((waiting("a-00000", 9.0),))
    assert len(keeper.look(ROWS).items) == 1  # not asked yet
    bottles.now = 5.0
    assert keeper.look(ROWS) == Listing((waiting("b-00000", 1.0), waiting("a-00000", 9.0)), ())


def test_of_a_bottle_that_has_gone_nothing_is_listed(bottles: Bottles, context: Context) -> None:
    bottles.says = {slug: Said((waiting(slug, 1.0),)) for slug, _, _ in ROWS}
    keeper = Asking(context)
    keeper.look(ROWS)
    assert [item.slug for item in keeper.look(ROWS[:1]).items] == ["a-00000"]
    keeper.look(ROWS)
    assert bottles.asked == ["a-00000", "b-00000", "b-00000"]


def test_one_that_does_not_come_back_holds_up_nobody_else(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    let = threading.Event()

    def running(_: Context, slug: str) -> None:
        if slug == "a-00000":
            let.wait(60)
        raise KeyError(slug)

    monkeypatch.setattr("claude_bottle.operations.deciding.running", running)
    found = Asking(context, seconds=0.5).look(ROWS)
    let.set()
    assert found.items == ()
    assert sorted(found.warnings) == ["a-00000: no answer within 0.5 s", "b-00000: KeyError"]
