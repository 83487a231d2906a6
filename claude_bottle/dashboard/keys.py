"""Every key of the dashboard, where it acts, and why it does not where it does not. Pure.

Invariant: the footer, the help, the palette and what a key does all come from `KEYS`; an action that is
refused here is never carried out.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_bottle.dashboard.world import Agent, Launch
from claude_bottle.operations.proposals import Waiting
from claude_bottle.policy.proposals import CAPABILITY

PROPOSALS, AGENTS, ANYWHERE = "proposals", "agents", ""


class Key(NamedTuple):
    """`keys` are Textual's names; `mark` is how it stands in the footer, nothing where it does not.

    The rarer, the sooner a narrow footer goes without it.
    """

    action: str
    keys: str
    mark: str
    label: str
    pane: str
    told: str  # a line of help
    rare: int = 0


KEYS = (
    Key("view", "enter", "Enter", "view", PROPOSALS, "what it would add, what else that opens"),
    Key("approve", "a", "a", "approve", PROPOSALS, "grant it, with bounds"),
    Key("modify", "m", "m", "modify", PROPOSALS, "grant something else: your $EDITOR on what was asked for"),
    Key("reject", "r", "r", "reject", PROPOSALS, "say no, and why"),
    Key(
        "attach",
        "enter",
        "Enter",
        "attach",
        AGENTS,
        "sit beside it, in tmux's right pane or here",
    ),
    Key("new", "n", "n", "new", ANYWHERE, "start an agent"),
    Key("stop", "x", "x", "stop", AGENTS, "end it; its work comes back, its state is preserved"),
    Key("diff", "d", "d", "diff", AGENTS, "what it has changed", 1),
    Key("log", "l", "l", "log", AGENTS, "what was decided, and what was said", 2),
    Key("routes", "e", "e", "routes", AGENTS, "your $EDITOR on what it may reach", 3),
    Key("allowlist", "p", "p", "allowlist", AGENTS, "your $EDITOR on the hosts it may reach as a whole", 4),
    Key("resume", "R", "R", "resume", ANYWHERE, "start a preserved one again", 6),
    Key("other_pane", "tab,shift+tab", "Tab", "pane", ANYWHERE, "move between proposals and agents", 5),
    Key("filter", "slash", "/", "filter", ANYWHERE, "only rows with these letters; Esc shows all again", 7),
    Key("command_palette", "colon", "", "palette", ANYWHERE, "every action by its name"),
    Key("help", "question_mark", "?", "help", ANYWHERE, "all keys"),
    Key("leave", "q", "q", "quit", ANYWHERE, "leave; the agents go on"),
)
BY_ACTION = {key.action: key for key in KEYS}
NAMES = tuple(dict.fromkeys(name for key in KEYS for name in key.keys.split(",")))
# The sidecars that do what an action edits: one of them must be up.
_NEEDS = {"routes": ("egress",), "allowlist": ("pipelock", "firewall")}


class Facts(NamedTuple):
    """What the keys depend on: the focused pane and what is selected in it."""

    pane: str
    agent: Agent | None = None
    launch: Launch | None = None
    proposal: Waiting | None = None
    busy: bool = False  # something is done to what is selected already
    filtered: bool = False


def action_of(name: str, pane: str) -> str:
    """What this key means where that pane has the focus; else what it means in the other one."""
    found = [key for key in KEYS if name in key.keys.split(",")]
    return next((key for key in found if key.pane in (pane, ANYWHERE)), found[0]).action


def applying(facts: Facts) -> tuple[Key, ...]:
    """The keys of the footer."""
    return tuple(key for key in KEYS if key.mark and not refusal(key.action, facts))


def refusal(action: str, facts: Facts) -> str:
    """Why not; empty where it can be done."""
    key = BY_ACTION[action]
    if key.pane == ANYWHERE:
        return ""
    if key.pane != facts.pane:
        return f"{key.mark} ({key.label}) is for {key.pane}: Tab moves there"
    return _of_proposals(facts) if key.pane == PROPOSALS else _of_agents(action, facts)


def _of_proposals(facts: Facts) -> str:
    if facts.proposal is None:
        return "no proposal is selected"
    return "it is being answered" if facts.busy else ""


def _of_agents(action: str, facts: Facts) -> str:
    if facts.launch is not None:
        return "" if action in ("stop", "log") else "it is not up yet"
    if facts.agent is None:
        return "no agent is selected"
    if facts.busy:
        return "it is being stopped"
    needed = _NEEDS.get(action, ())
    if needed and not set(needed) & set(facts.agent.services):
        return f"{facts.agent.slug} has no {' or '.join(needed)} running, so there is nothing to edit"
    return ""


def has_bounds(item: Waiting) -> bool:
    """Whether a yes can be for a time or for so many uses."""
    return item.proposal.asked.kind != CAPABILITY


def sections() -> list[tuple[str, list[tuple[str, str]]]]:
    """For the help: a heading, and each key with what it does."""
    moving = [
        ("j k ↑ ↓", "next, previous row"),
        ("g G", "first, last row"),
        ("PgUp PgDn", "a page up, down"),
        ("Esc", "all rows again, no message"),
    ]
    found = [("Moving", moving)]
    for pane, heading in ((PROPOSALS, "Proposals"), (AGENTS, "Agents"), (ANYWHERE, "Everywhere")):
        found.append((heading, [(key.mark or ":", key.told) for key in KEYS if key.pane == pane]))
    return found
