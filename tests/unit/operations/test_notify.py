"""The operator is told of a proposal once, not too often, and by nothing that can be turned against them."""

from __future__ import annotations

import json
import os
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.errors import BottleError
from claude_bottle.operations import notify
from claude_bottle.operations.context import Context
from claude_bottle.operations.notify import PAUSE, Notice, Told, Watch, _Noting, describe, next_notice, tell
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import (
    CAPABILITY,
    EGRESS,
    REJECTED,
    URL,
    Answer,
    Asked,
    Proposal,
    Queue,
    answer,
)
from claude_bottle.proc import SystemRunner
from claude_bottle.state import audit
from claude_bottle.state.metadata import Metadata
from claude_bottle.state.paths import Home, open_home
from tests.support.processes import eventually

SLUG = "agent-abcde"


def proposal(number: int, asked: Asked | None = None) -> Proposal:
    asked = asked or Asked(EGRESS, "the tests need it", Route(f"h{number}.example.org"))
    return Proposal(f"p-{number:010x}", asked, 1.0)


def queue(*numbers: int) -> Queue:
    return Queue(tuple(map(proposal, numbers)))


def test_each_is_told_once() -> None:
    told, notice = next_notice(Told(), queue(1), 0.0)
    assert notice == Notice("p-0000000001", "egress-block: h1.example.org: the tests need it")
    assert next_notice(told, queue(1), 1000.0) == (told, None)


def test_what_comes_too_quickly_is_counted_and_told_together() -> None:
    told, _ = next_notice(Told(), queue(1), 0.0)
    assert next_notice(told, queue(1, 2, 3), PAUSE - 0.1) == (told, None)
    told, notice = next_notice(told, queue(1, 2, 3), PAUSE)
    assert notice is not None
    assert (notice.proposal, notice.more) == ("p-0000000002", 1)
    assert next_notice(told, queue(1, 2, 3), 1000.0)[1] is None


def test_what_was_answered_meanwhile_is_not_told() -> None:
    told, _ = next_notice(Told(), queue(1), 0.0)
    answered = answer(queue(1, 2), "p-0000000002", Answer(REJECTED, "d-1", 2.0))
    assert next_notice(told, answered, PAUSE)[1] is None


@given(st.lists(st.tuples(st.floats(0, 5), st.sets(st.integers(0, 6))), max_size=30))
def test_never_more_than_one_in_ten_seconds_and_none_twice(looks: list[tuple[float, set[int]]]) -> None:
    told, now, times, said = Told(), 0.0, [], []
    pending: set[int] = set()
    for passed, more in looks:
        now, pending = now + passed, pending | more
        told, notice = next_notice(told, queue(*sorted(pending)), now)
        if notice is not None:
            times.append(now)
            said += [notice.proposal]
    assert all(later - earlier >= PAUSE for earlier, later in pairwise(times))
    assert len(said) == len(set(said))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (Asked(CAPABILITY, "to\nbuild", packages=("jq", "tree")), r"capability-block: jq tree: to\x0abuild"),
        (Asked(CAPABILITY, "x", dockerfile="RUN a"), "capability-block: RUN a: x"),
        (Asked(URL, "x", url="https://a.example/\x1b]0;t"), r"pipelock-block: https://a.example/\x1b]0;t: x"),
        (
            Asked(EGRESS, "\u202eevil", Route("a.example", methods=("GET",), paths=("/x",))),
            r"egress-block: GET a.example /x: \u202eevil",
        ),
    ],
)
def test_the_text_is_one_harmless_line(asked: Asked, text: str) -> None:
    assert describe(proposal(1, asked)) == text


def test_however_long_it_is() -> None:
    text = describe(proposal(1, Asked(CAPABILITY, "\x1b" * 5000, dockerfile="RUN \n" * 3000)))
    assert len(text) <= 200
    assert text.isprintable()


WITNESS = """
import json, os, sys
found = {"argv": sys.argv[1:], "env": dict(os.environ), "input": sys.stdin.read()}
found["tty"], found["cwd"] = [os.isatty(n) for n in range(3)], os.getcwd()
found["leads"] = os.getsid(0) == os.getpid()
open(sys.argv[1], "w").write(json.dumps(found))
"""


def test_the_command_sees_what_it_is_told_and_no_more(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    host = {"PATH": "/usr/bin:/bin", "HOME": "/h", "ANTHROPIC_API_KEY": "s3cret", "SECRET": "s3cret"}
    argv = (sys.executable, "-I", "-c", WITNESS, str(seen), "$(touch x); `y`")
    assert tell(argv, SLUG, Notice("p-1", "a text", 2), host) == ""
    found = json.loads(seen.read_text())
    assert found["argv"] == [str(seen), "$(touch x); `y`"]
    assert "s3cret" not in str(found)
    own = {name: value for name, value in found["env"].items() if name.startswith("CLAUDE_BOTTLE_")}
    assert own == {
        "CLAUDE_BOTTLE_SLUG": SLUG,
        "CLAUDE_BOTTLE_PROPOSAL": "p-1",
        "CLAUDE_BOTTLE_TEXT": "a text",
        "CLAUDE_BOTTLE_MORE": "2",
    }
    assert (found["input"], found["tty"], found["cwd"], found["leads"]) == ("", [False] * 3, "/", True)


def test_what_goes_wrong_is_said_in_a_line() -> None:
    notice = Notice("p-1", "a text")
    assert "cannot be run: No such file" in tell(("/nowhere/tell",), SLUG, notice, {})
    assert tell(("false",), SLUG, notice, dict(os.environ)) == "false ended with status 1"


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "COMMAND_SECONDS", 1.0)
    pid = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {pid}; wait"
    assert "did not end" in tell(("sh", "-c", script), SLUG, Notice("p-1", "x"), dict(os.environ))
    assert pid.exists()
    eventually(lambda: _ended(int(pid.read_text())))


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_watch_goes_on_through_faults_and_while_there_is_no_bottle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PAUSE", 0.0)
    answers: list[Exception | Queue | None]
    answers = [BottleError("it does not answer"), OSError(5, "x"), queue(1), queue(1), None, queue(1, 2)]
    looked, heard = threading.Event(), []

    def look() -> Queue | None:
        if not answers:
            looked.set()
            return None
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    before = threading.active_count()
    watch = Watch(look, heard.append, pause=0.001)
    assert looked.wait(60)
    watch.stop()
    eventually(lambda: threading.active_count() == before)
    assert [notice.proposal for notice in heard] == ["p-0000000001", "p-0000000002"]


def test_a_watch_stops_when_it_is_told_to() -> None:
    before = threading.active_count()
    watch = Watch(lambda: Queue(), lambda notice: None, pause=0.001)
    watch.stop()
    eventually(lambda: threading.active_count() == before)


def test_what_cannot_be_noted_is_told_and_tried_again_after_a_while(tmp_path: Path) -> None:
    home = open_home(Home(tmp_path))
    home.bottle(SLUG).root.mkdir()
    metadata = Metadata(SLUG, "agent", "plain", "bubblewrap", 1.0, "none", "/", "")
    noting = _Noting(Context(home, SystemRunner({}), {}, tmp_path), metadata)
    head = home.root / "audit" / "head"
    head.mkdir()
    assert f"what {SLUG} asks is not in the audit log" in noting(queue(1), 0.0)
    head.rmdir()
    assert noting(queue(1), PAUSE - 0.1) == ""
    assert [line["kind"] for line in audit.read(home)] == []
    assert noting(queue(1, 2), PAUSE) == ""
    assert noting(queue(2), 2 * PAUSE) == ""
    noted = [line["proposal"] for line in audit.read(home) if line["kind"] == "proposal"]
    assert noted == ["p-0000000001", "p-0000000002"]
