"""What a command says of unanswered proposals, and what the manifest does."""

from __future__ import annotations

import pytest

from claude_bottle.errors import UsageError
from claude_bottle.manifest.model import REJECT, WAIT, Supervise
from claude_bottle.operations.choices import Unanswered
from claude_bottle.operations.preflight import describe_proposals

RUN = Unanswered(Supervise(unanswered=REJECT))


@pytest.mark.parametrize(
    ("command", "manifest", "patience"),
    [
        (RUN, Supervise(), 0.0),
        (RUN, Supervise(unanswered=WAIT), None),
        (RUN, Supervise(unanswered=REJECT, after=60), 60.0),
        (Unanswered(Supervise(unanswered=WAIT), over=True), Supervise(unanswered=REJECT, after=60), None),
        (Unanswered(Supervise(unanswered=REJECT, after=5), over=True), Supervise(unanswered=WAIT), 5.0),
    ],
)
def test_run_rejects_at_once_unless_told_otherwise(
    command: Unanswered, manifest: Supervise, patience: float | None
) -> None:
    manifest = manifest._replace(notify=("tell",))
    found = command.laid(manifest)
    assert found.allowed
    assert found.patience == patience
    assert found.notify == ("tell",)


def test_a_right_to_ask_that_was_taken_away_stays_so() -> None:
    assert not RUN.laid(Supervise(False))
    with pytest.raises(UsageError, match="ask for nothing"):
        Unanswered(Supervise(unanswered=WAIT), over=True).laid(Supervise(False))


@pytest.mark.parametrize(
    ("supervise", "text"),
    [
        (Supervise(), "wait for your answer"),
        (Supervise(False), "none: the agent cannot ask for anything"),
        (Supervise(unanswered=REJECT), "rejected at once, as nobody is there to answer"),
        (Supervise(unanswered=REJECT, after=600), "rejected where nobody has answered after 10m"),
        (Supervise(unanswered=REJECT, after=90), "rejected where nobody has answered after 90s"),
        (Supervise(notify=("tell", "s3cret")), "wait for your answer; told by tell"),
    ],
)
def test_the_preflight_says_what_becomes_of_a_proposal(supervise: Supervise, text: str) -> None:
    assert describe_proposals(supervise) == text
