"""Which key acts when, as data."""

from __future__ import annotations

import pytest

from claude_bottle.dashboard import keys
from claude_bottle.dashboard.keys import AGENTS, PROPOSALS, Facts
from claude_bottle.dashboard.world import Launch
from tests.support.dash import agent, asked

REVIEWER = agent("reviewer-ab12x")
WAITING = asked("reviewer-ab12x", "0123456789")


def marks(facts: Facts) -> str:
    return " ".join(key.mark for key in keys.applying(facts))


def test_the_footer_has_the_keys_that_apply_now_and_no_others() -> None:
    assert marks(Facts(AGENTS, agent=REVIEWER)) == "Enter n x d l e p R Tab / ? q"
    assert marks(Facts(AGENTS)) == "n R Tab / ? q"
    assert marks(Facts(PROPOSALS, proposal=WAITING)) == "Enter a m r n R Tab / ? q"
    assert marks(Facts(PROPOSALS)) == "n R Tab / ? q"
    assert marks(Facts(AGENTS, launch=Launch("+x", "x", ""))) == "n x l R Tab / ? q"
    assert marks(Facts(AGENTS, agent=REVIEWER, busy=True)) == "n R Tab / ? q"


@pytest.mark.parametrize("action", ["view", "approve", "modify", "reject"])
def test_an_answer_is_given_only_where_the_proposals_have_the_focus(action: str) -> None:
    assert "Tab moves there" in keys.refusal(action, Facts(AGENTS, agent=REVIEWER, proposal=WAITING))
    assert not keys.refusal(action, Facts(PROPOSALS, proposal=WAITING))
    assert keys.refusal(action, Facts(PROPOSALS)) == "no proposal is selected"
    assert keys.refusal(action, Facts(PROPOSALS, proposal=WAITING, busy=True))


@pytest.mark.parametrize(
    ("action", "needed"),
    [("routes", ("egress",)), ("allowlist", ("firewall",)), ("allowlist", ("pipelock",))],
)
def test_an_edit_needs_the_sidecar_that_would_hold_to_it(action: str, needed: tuple[str, ...]) -> None:
    assert not keys.refusal(action, Facts(AGENTS, agent=agent("a-1", services=needed)))
    why = keys.refusal(action, Facts(AGENTS, agent=agent("a-1", services=("supervise",))))
    assert needed[0] in why
    assert "nothing to edit" in why


def test_two_actions_share_a_key_only_where_they_are_of_different_panes() -> None:
    seen: set[tuple[str, str]] = set()
    for key in keys.KEYS:
        for name in key.keys.split(","):
            panes = {PROPOSALS, AGENTS} if key.pane == keys.ANYWHERE else {key.pane}
            for pane in panes:
                assert (name, pane) not in seen, f"{name} means two things among the {pane}"
                seen.add((name, pane))


def test_every_action_is_in_the_help() -> None:
    told = [text for _, section in keys.sections() for _, text in section]
    for key in keys.KEYS:
        assert key.told in told


def test_enter_means_what_the_pane_with_the_focus_makes_of_it() -> None:
    assert keys.action_of("enter", PROPOSALS) == "view"
    assert keys.action_of("enter", AGENTS) == "attach"
    assert keys.action_of("a", AGENTS) == "approve"  # to be refused with the reason
    assert {keys.action_of(name, pane) for name in keys.NAMES for pane in (PROPOSALS, AGENTS)} == set(
        keys.BY_ACTION
    )
