"""What an agent asks for stands in the audit log once, whoever sees it and whatever kills them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.operations.auditing import as_fields
from claude_bottle.operations.noting import MOST, note, unnoted
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import CAPABILITY, EGRESS, URL, Asked, Proposal, Queue
from claude_bottle.policy.proposals_json import proposal_to_json, queue_to_json
from claude_bottle.state import audit, store
from claude_bottle.state.audit_check import verify
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, open_home

ROOT = Path(__file__).parents[3]
SLUG = "agent-abcde"

_NOTER = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from claude_bottle.operations.noting import note
from claude_bottle.policy.proposals_json import queue_from_json
from claude_bottle.state.paths import Home

left = int(sys.argv[4])

def step(name):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

sys.stdin.readline()
queue = queue_from_json(json.loads(Path(sys.argv[3]).read_text()))
note(Home(Path(sys.argv[2])), "agent-abcde", "agent", queue.proposals, step=step)
"""


def asks(number: int, asked: Asked | None = None) -> Proposal:
    return Proposal(f"p-{number:010x}", asked or Asked(EGRESS, "why", Route(f"h{number}.example.org")), 1.0)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = open_home(Home(tmp_path / "home"))
    made.bottle(SLUG).root.mkdir()
    store.save(made, Metadata(SLUG, "agent", "plain", "bubblewrap", time.time(), "none", "/", ""))
    return made


def lines(home: Home) -> list[dict[str, Any]]:
    assert verify(home).faults == ()
    return [line for line in audit.read(home) if line["kind"] == "proposal"]


def names(home: Home) -> list[str]:
    return [line.get("proposal", "all") for line in lines(home)]


def noter(home: Home, queue: Path, left: int = 0) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", _NOTER, str(ROOT), str(home.root), str(queue), str(left)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE)


def queue_file(folder: Path, items: list[Proposal]) -> Path:
    path = folder / "queue.json"
    path.write_text(json.dumps(queue_to_json(Queue(tuple(items)))))
    return path


def test_each_is_there_once_with_all_that_was_asked(home: Home) -> None:
    first, second = asks(1), asks(2, Asked(CAPABILITY, "to build", packages=("jq",)))
    note(home, SLUG, "agent", [first])
    note(home, SLUG, "agent", [first._replace(times=5), second])
    note(home, SLUG, "agent", [second])
    assert [(line["slug"], line["agent"], line["proposal"], line["asked"]) for line in lines(home)] == [
        (SLUG, "agent", item.id, proposal_to_json(item)) for item in (first, second)
    ]


def test_nothing_is_made_for_a_bottle_that_asks_nothing_or_is_gone(home: Home) -> None:
    note(home, SLUG, "agent", [])
    note(home, "agent-zzzzz", "agent", [asks(1)])
    assert lines(home) == []
    assert {path.name for path in home.bottle(SLUG).root.iterdir()} == {"metadata.json"}
    assert not home.bottle("agent-zzzzz").root.exists()


@pytest.mark.parametrize("left", range(1, 6))  # begun, written three times, listed
def test_killed_at_any_step_each_is_there_once_in_the_end(home: Home, tmp_path: Path, left: int) -> None:
    items = [asks(number) for number in range(3)]
    process = noter(home, queue_file(tmp_path, items), left)
    process.communicate(b"\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert names(home) == [item.id for item in items[: max(0, left - 1)]]
    note(home, SLUG, "agent", [*items, asks(3)])
    assert names(home) == [asks(number).id for number in range(4)]


def test_of_many_processes_at_once_one_writes_each(home: Home, tmp_path: Path) -> None:
    items = [asks(number) for number in range(20)]
    path = queue_file(tmp_path, items)
    several = [noter(home, path) for _ in range(5)]
    for process in several:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in several:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert names(home) == [item.id for item in items]


@pytest.mark.parametrize("text", ["", "p-0000000000\n", "end\n\0", "nonsense", "p-0000000000\nend\nend\n"])
def test_a_list_that_is_not_whole_is_made_anew_from_the_log(home: Home, text: str) -> None:
    note(home, SLUG, "agent", [asks(0), asks(1)])
    (home.bottle(SLUG).root / "noted").write_text(text)
    note(home, SLUG, "agent", [asks(0), asks(1), asks(2)])
    assert names(home) == [asks(number).id for number in range(3)]


def test_another_bottle_s_line_with_the_same_name_counts_for_nothing(home: Home) -> None:
    audit.append(home, "proposal", slug="other-abcde", agent="other", data={"proposal": asks(0).id})
    note(home, SLUG, "agent", [asks(0)])
    assert [line["slug"] for line in lines(home)] == ["other-abcde", SLUG]


def test_a_hundred_thousand_are_bounded_and_then_cost_next_to_nothing(home: Home) -> None:
    """More than the sidecar's queue ever lets through; as of one that an agent has broken."""
    for begin in range(0, 100_000, 160):
        note(home, SLUG, "agent", [asks(number) for number in range(begin, begin + 160)])
    found = lines(home)
    assert [line.get("proposal") for line in found[:-1]] == [asks(number).id for number in range(MOST)]
    assert found[-1]["what"].startswith("no more")
    assert (home.bottle(SLUG).root / "noted").stat().st_size < 16 * (MOST + 2)
    (home.bottle(SLUG).root / "noted").unlink()
    note(home, SLUG, "agent", [asks(99_999)])
    assert len(lines(home)) == len(found)


def test_hostile_text_is_bounded_and_shown_as_a_harmless_row(home: Home) -> None:
    from claude_bottle.text import shown

    text = "\x1b]0;owned\x07\n\u202e" * 200
    for number, asked in enumerate(
        (
            Asked(URL, text, url=text),
            Asked(CAPABILITY, text, dockerfile=text * 5),
            Asked(EGRESS, text, Route("a.example", paths=tuple(f"/{at}" + "x" * 2000 for at in range(200)))),
        )
    ):
        note(home, SLUG, "agent", [asks(number, asked)])
    assert len(json.dumps(lines(home))) < 3 * (64 << 10)
    for line in lines(home):
        row = as_fields(line)
        assert len(row) == 5
        assert "\\x1b]0;owned" in shown(row[3], 10_000) or "cut" in line["asked"]
        assert shown(row[3], 10_000).isprintable()


def test_what_cannot_be_noted_is_told_and_noted_later(home: Home) -> None:
    head = home.root / "audit" / "head"
    head.mkdir()
    fault = unnoted(home, SLUG, "agent", [asks(0)])
    assert fault.startswith(f"what {SLUG} asks is not in the audit log: ")
    with pytest.raises((BottleError, OSError)):
        note(home, SLUG, "agent", [asks(0)])
    os.rmdir(head)
    assert unnoted(home, SLUG, "agent", [asks(0)]) == ""
    assert names(home) == [asks(0).id]
