"""What stands in a row, which columns fit, and what the lines around the panes say. Pure: text and tones.

Invariant: every text here was made fit to be seen (`claude_bottle.text`); a tone is a word of `TONES` and
only ever repeats what the text says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from rich.cells import cell_len

from claude_bottle.dashboard.keys import PROPOSALS, Facts, Key, applying
from claude_bottle.dashboard.world import Agent, Launch, World, key_of
from claude_bottle.operations import status
from claude_bottle.operations.asked import asks
from claude_bottle.operations.proposals import Waiting
from claude_bottle.text import plural, shown

TONES = ("", "muted", "strong", "good", "busy", "warn", "bad")
_STATUS_TONES = {
    status.WORKING: "busy",
    status.WAITING: "warn",
    status.IDLE: "good",
    status.DEGRADED: "bad",
    status.EXITED: "muted",
    status.UNKNOWN: "warn",
}


_LEAST = 24  # cells of the column that takes what is left, before others go


class Part(NamedTuple):
    text: str
    tone: str = ""


class Row(NamedTuple):
    """`cells` stand under `Table.columns`; the row that is shown in the right pane is `beside`."""

    key: str
    cells: tuple[Part, ...]
    beside: bool = False


class Column(NamedTuple):
    """`last` columns go first where it is narrow; at 0 it stays. One of them takes what is left."""

    name: str
    most: int  # cells, where others want room as well
    last: int = 0
    takes_rest: bool = False
    right: bool = False


AGENT_COLUMNS = (
    Column("backend", 14),
    Column("slug", 28),
    Column("agent", 20, last=7),
    Column("started", 8, last=2),
    Column("status", 40, takes_rest=True),
    Column("asks", 7, last=1),
    Column("changes", 12, last=3, right=True),
    Column("tokens", 8, last=5, right=True),
    Column("branch", 24, last=6),
    Column("sidecars", 40, last=4),
)
PROPOSAL_COLUMNS = (
    Column("age", 6, right=True),
    Column("slug", 28),
    Column("what", 34),
    Column("why", 200, last=1, takes_rest=True),
)


@lru_cache(maxsize=2048)
def agent_row(agent: Agent, *, beside: bool = False, busy: str = "") -> Row:
    cells = (
        Part(f"[{shown(agent.backend, 20)}]", "muted"),
        Part(shown(agent.slug, 60), "strong" if beside else ""),
        Part(shown(agent.name, 60), "muted"),
        Part(clock(agent.started), "muted"),
        Part(busy, "busy") if busy else _status(agent),
        _approvals(agent.approvals),
        _changes(agent),
        Part("" if agent.tokens is None else amount(agent.tokens), "muted"),
        Part(shown(agent.branch, 60), "muted"),
        Part(f"[{','.join(shown(name, 20) for name in agent.services)}]" if agent.services else "", "muted"),
    )
    return Row(agent.slug, cells, beside)


@lru_cache(maxsize=256)
def launch_row(launch: Launch) -> Row:
    """It has no slug, and no time but now."""
    step = shown(launch.steps[-1], 60) if launch.steps else ""
    says = Part(f"(starting) {step}".rstrip(), "busy")
    if launch.failure:
        says = Part(f"failed: {shown(launch.failure, 200)}", "bad")
    name = Part(shown(launch.agent, 60))
    backend = Part(f"[{shown(launch.backend, 20)}]" if launch.backend else "", "muted")
    return Row(launch.ident, (backend, name, name, Part(""), says, *[Part("")] * 5))


def _status(agent: Agent) -> Part:
    if not agent.services:
        return Part("(starting)", "busy")
    says = agent.status
    if agent.down:
        says = f"{status.DEGRADED}: {', '.join(shown(name, 20) for name in agent.down)} down"
    elif agent.waiting_for:
        says = f"waiting: {shown(agent.waiting_for, 60)}"
    return Part(says, "bad" if agent.down else _STATUS_TONES.get(agent.status, ""))


def _approvals(count: int | None) -> Part:
    if count is None:
        return Part("?", "muted")
    return Part(plural(count, "ask"), "warn") if count else Part("")


def _changes(agent: Agent) -> Part:
    if agent.added is None or agent.removed is None:
        return Part("")
    return Part(f"+{amount(agent.added)} -{amount(agent.removed)}" if agent.added or agent.removed else "")


def amount(number: int) -> str:
    """`1234` as `1.2k`: five characters at most up to a thousand milliards."""
    if number >= 10**12:
        return ">999G"
    size = float(number)
    for unit in ("", "k", "M"):
        if size < 999.5:
            return f"{size:.0f}{unit}" if unit == "" or size >= 99.95 else f"{size:.1f}{unit}"
        size /= 1000
    return f"{min(size, 999):.0f}G"


def clock(seconds: float) -> str:
    """HH:MM:SS of the operator's day; nothing for a time that there is not."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return ""


def proposal_rows(items: Sequence[Waiting], now: float) -> list[Row]:
    return [_proposal_row(item, age(now - item.proposal.at)) for item in items]


def age(seconds: float) -> str:
    """In its largest unit; nothing below a minute is told apart, or the screen would never be still."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{min(int(seconds // size), 9999)}{unit}"
    return "<1m"


@lru_cache(maxsize=2048)
def _proposal_row(item: Waiting, age: str) -> Row:
    cells = (
        Part(age, "muted"),
        Part(shown(item.slug, 60)),
        Part(shown(asks(item.proposal.asked), 200), "strong"),
        Part(shown(item.proposal.asked.justification.replace("\n", " "), 300), "muted"),
    )
    return Row(key_of(item), cells)


def widths(columns: Sequence[Column], rows: Sequence[Row], available: int) -> tuple[int, ...]:
    """Cells for each column, 0 for one that is left out. A space stands between two."""
    wanted = [
        min(column.most, max((cell_len(row.cells[at].text) for row in rows), default=0))
        for at, column in enumerate(columns)
    ]
    rest = next(at for at, column in enumerate(columns) if column.takes_rest)
    wanted[rest] = min(wanted[rest], _LEAST)
    order = sorted((column.last, at) for at, column in enumerate(columns) if column.last)
    while order and _total(wanted) > available:
        wanted[order.pop()[1]] = 0
    if wanted[rest] or not columns[rest].last:
        others = _total([width for at, width in enumerate(wanted) if at != rest])
        wanted[rest] = max(0, available - others - (1 if others else 0))
    return tuple(wanted)


def _total(wanted: Sequence[int]) -> int:
    shown_ones = [width for width in wanted if width]
    return sum(shown_ones) + max(0, len(shown_ones) - 1)


def matching(rows: Sequence[Row], letters: str) -> list[Row]:
    """Those that have these letters anywhere, in any case."""
    wanted = letters.casefold()
    return [row for row in rows if not wanted or wanted in _letters(row)]


@lru_cache(maxsize=4096)
def _letters(row: Row) -> str:
    return " ".join(cell.text for cell in row.cells).casefold()


def header(world: World) -> tuple[Part, ...]:
    """How much there is, and what wants the operator: that first, as a narrow screen cuts the end off."""
    if not world.looked:
        return (Part("looking…", "muted"), *_warnings(world))
    counts = Counter(status.DEGRADED if agent.down else agent.status for agent in world.agents)
    failed = sum(1 for launch in world.launches if launch.failure)
    asked = len(world.proposals)
    return (
        Part(plural(asked, "proposal"), "warn" if asked else "muted"),
        Part(plural(len(world.agents), "agent"), "strong"),
        *_counted(counts[status.WAITING], "waiting for you", "warn"),
        *_counted(counts[status.DEGRADED], "degraded", "bad"),
        *_counted(failed, "not started", "bad"),
        *_warnings(world),
        *_counted(counts[status.WORKING], "working", "busy"),
    )


def _counted(count: int, says: str, tone: str) -> tuple[Part, ...]:
    return (Part(f"{count} {says}", tone),) if count else ()


def _warnings(world: World) -> tuple[Part, ...]:
    if not world.warnings:
        return ()
    more = len(world.warnings) - 1
    return (part(f"{world.warnings[0]}{f' (and {more} more)' if more else ''}", "bad"),)


def title(pane: str, count: int, letters: str, *, focused: bool) -> tuple[Part, ...]:
    parts = [Part(f"{pane} ({count})", "strong" if focused else "muted")]
    return (*parts, Part(f"/{shown(letters, 100)}", "warn")) if letters else tuple(parts)


def empty(pane: str, world: World, letters: str) -> str:
    """What stands where there is no row."""
    if not world.looked:
        return "looking…"
    if letters:
        return "no row has these letters: Esc shows all"
    return "nothing waits for your answer" if pane == PROPOSALS else "nothing runs: n starts an agent"


def footer(facts: Facts, width: int) -> tuple[Key, ...]:
    """The keys that apply, as many as there is room for; help and the way out are among them."""
    found = list(applying(facts))
    rarest = sorted((key for key in found if key.rare), key=lambda key: -key.rare)
    while rarest and sum(len(label(key)) + 2 for key in found) > width:
        found.remove(rarest.pop(0))
    return tuple(found)


def label(key: Key) -> str:
    return f"{key.mark} {key.label}"


def part(text: object, tone: str, limit: int = 200) -> Part:
    return Part(shown(text, limit), tone)


def about(facts: Facts) -> Part:
    """All of what is selected on one line: what a narrow row leaves out as well."""
    if facts.proposal is not None:
        waiting, found = facts.proposal, facts.proposal.proposal
        return part(f"{found.id}  {waiting.slug}  {asks(found.asked)}  {found.asked.justification}", "", 600)
    if facts.launch is not None:
        return part(f"{facts.launch.agent} {launch_row(facts.launch).cells[4].text}", "")
    return Part(_of_agent(facts.agent)) if facts.agent is not None else Part("")


def _of_agent(agent: Agent) -> str:
    says = [
        agent.slug,
        f"agent {agent.name}",
        f"[{agent.backend}]",
        f"since {clock(agent.started)}",
        _status(agent).text,
        f"[{','.join(agent.services)}]" if agent.services else "",
        f"on {agent.branch}" if agent.branch else "",
        _changes(agent).text,
        f"{amount(agent.tokens)} tokens" if agent.tokens is not None else "",
        _approvals(agent.approvals).text if agent.approvals else "",
    ]
    return "  ".join(shown(word, 120) for word in says if word)
