"""Decisions on a real bottle, and what becomes of them when their process is killed at any step."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.operations import deciding
from claude_bottle.operations.deciding import carry_out
from claude_bottle.operations.proposals import Terms, Waiting, find, granting, listing
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import Proposal
from claude_bottle.state import audit
from claude_bottle.state.audit_check import verify
from tests.support.bottles import World, make_world
from tests.support.listeners import Upstream
from tests.support.proposing import ROOT, Asking, asking, proposal, wants

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")

STEPS = ("locked", "looked", "planned", "begun", "audited", "changed", "finished", "told")

_APPROVER = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from claude_bottle.operations.always import prepare
from claude_bottle.operations.context import Context
from claude_bottle.operations.proposals import Terms, approve, find
from claude_bottle.proc import SystemRunner
from claude_bottle.state.paths import Home

def step(name):
    if name == sys.argv[4]:
        os.kill(os.getpid(), signal.SIGKILL)
    print(name, flush=True)

context = Context(Home(Path(sys.argv[2])), SystemRunner({}), {}, Path(sys.argv[2]))
waiting = find(context, sys.argv[3])
finish = prepare(context, waiting, None).finish if sys.argv[5] == "always" else None
approve(context, waiting, Terms(), finish=finish, step=step)
"""


def host(number: int) -> str:
    return f"h{number}.example.org"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), "bubblewrap")


@pytest.fixture(scope="module")
def asked(world: World) -> Iterator[Asking]:
    """Thirty that wait; each test takes some of its own."""
    with asking(world, [proposal(number, wants(host(number))) for number in range(30)]) as found:
        yield found


def waiting(found: Asking, number: int) -> Waiting:
    return find(found.world.context, f"p-{number:04x}abcdef")


def approver(found: Asking, number: int, step: str, always: str = "") -> subprocess.Popen[bytes]:
    ident = f"p-{number:04x}abcdef"
    argv = [sys.executable, "-c", _APPROVER, str(ROOT), str(found.world.home.root), ident, step, always]
    return subprocess.Popen(argv, stdout=subprocess.PIPE)


def lines_of(found: Asking, ident: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The decisions about a proposal, and their outcomes."""
    lines = list(audit.read(found.world.home))
    decisions = [line for line in lines if line["kind"] == "decision" and line["proposal"] == ident]
    words = {line["decision"] for line in decisions}
    return decisions, [line for line in lines if line["kind"] == "outcome" and line["decision"] in words]


def in_force(found: Asking, name: str) -> list[str]:
    """The decisions by which this host is allowed."""
    return [item.grant for item in found.seen.live.routes if item.route.host == name]


def settled(found: Asking, number: int) -> bool:
    """Whether it took effect; and whatever it was, the log tells the same, once."""
    listing(found.world.context)
    ident = f"p-{number:04x}abcdef"
    decisions, outcomes = lines_of(found, ident)
    grants = in_force(found, host(number))
    assert sorted(line["decision"] for line in outcomes) == sorted(line["decision"] for line in decisions)
    applied = [line["decision"] for line in outcomes if line["state"] == "applied"]
    assert applied == grants
    item = found.seen.queue.find(ident)
    assert item is not None
    assert item.state == ("approved" if grants else "pending")
    assert verify(found.world.home).faults == ()
    return bool(grants)


@pytest.mark.parametrize(("number", "step"), [*enumerate(step for step in STEPS if step != "finished")])
def test_killed_at_any_step_it_is_applied_and_audited_or_neither(
    asked: Asking, number: int, step: str
) -> None:
    process = approver(asked, number, step)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    # Right after the kill: nothing is in force that is not in the log already.
    decisions, _ = lines_of(asked, f"p-{number:04x}abcdef")
    assert set(in_force(asked, host(number))) <= {line["decision"] for line in decisions}
    assert settled(asked, number) == (step in ("changed", "told"))
    if step not in ("changed", "told"):
        done = asked.cli("proposals", "approve", f"p-{number:04x}abcdef")
        assert done.status == 0, done.talk
        assert settled(asked, number)


def test_killed_at_any_moment_it_is_applied_and_audited_or_neither(asked: Asking) -> None:
    draw = random.Random(11)
    for number in range(8, 16):
        process = approver(asked, number, "")
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        time.sleep(draw.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        settled(asked, number)


def test_what_was_sent_by_a_killed_process_cannot_come_true_when_it_was_said_not_to_have(
    asked: Asking,
) -> None:
    """A change may still lie in the bundle's socket while the next process asks what became of it."""
    bottle, late = asked.launched.bottle, asked.seen
    process = approver(asked, 16, "audited")
    process.communicate(timeout=60)
    (decision,) = lines_of(asked, "p-0010abcdef")[0]
    assert settled(asked, 16) is False
    sent = granting("p-0010abcdef", Terms())(late, decision["decision"])
    from claude_bottle.operations.deciding import _change, _next

    assert sent.live is not None
    said = _change(bottle, late, _next(sent.live, late.live), sent.answers, {}, {}, decision["decision"])
    assert (said["ok"], said["error"]) == (False, "conflict")
    assert settled(asked, 16) is False


def test_of_two_operators_the_first_decides_and_the_second_is_told(asked: Asking) -> None:
    for number in (17, 18, 19):
        ident = f"p-{number:04x}abcdef"
        both = [asked.started("proposals", "approve", ident), asked.started("proposals", "reject", ident)]
        talks = [process.communicate(timeout=120)[1] for process in both]
        statuses = [process.returncode for process in both]
        assert sorted(statuses) == [0, 1]
        first, second = (0, 1) if statuses[0] == 0 else (1, 0)
        word = ("approved", "rejected")[first]
        assert f"{ident} was {word} already" in talks[second]
        decisions, outcomes = lines_of(asked, ident)
        assert [(line["answer"], line["who"]["uid"] >= 0) for line in decisions] == [(word, True)]
        assert [line["state"] for line in outcomes] == ["applied"]


def test_a_plan_that_refuses_leaves_no_line(asked: Asking) -> None:
    waiting(asked, 0)  # which puts what is asked into the log
    before = len(list(audit.read(asked.world.home)))
    assert asked.cli("proposals", "approve", "p-0000abcdef").status == 1
    assert len(list(audit.read(asked.world.home))) == before


def test_a_log_that_cannot_be_written_keeps_everything_as_it_is(asked: Asking) -> None:
    folder = asked.world.home.root / "audit"
    head = folder / "head"
    saved = head.read_bytes()
    head.unlink()
    head.mkdir()  # nothing can be read or written under this name
    try:
        done = asked.cli("proposals", "approve", "p-0014abcdef")
        assert done.status == 1
        assert in_force(asked, host(20)) == []
    finally:
        head.rmdir()
        head.write_bytes(saved)
    assert settled(asked, 20) is False
    assert asked.cli("proposals", "approve", "p-0014abcdef").status == 0
    assert settled(asked, 20)


def test_bounds_are_what_was_said(asked: Asking) -> None:
    assert asked.cli("proposals", "approve", "p-0015abcdef", "--for", "30m", "--uses", "3").status == 0
    (item,) = [item for item in asked.seen.live.routes if item.route.host == host(21)]
    assert item.bounds.uses == 3
    assert item.bounds.until is not None
    assert 1700 < item.bounds.until - asked.seen.now <= 1800


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("approve", "p-0016abcdef", "--always", "--once"), 2, "do not go together"),
        (("approve", "p-0016abcdef", "--for", "0m"), 2, "--for"),
        (("approve",), 2, "needs an ID"),
        (("approve", "p-ffffffffff"), 3, "there is no proposal"),
        (("approve", "p-0"), 2, "too short"),
        (("reject", "p-0016abcdef", "--for", "3m"), 2, "takes no --for"),
        (("approve", "p-0016abcdef", "--always"), 2, "no terminal"),
        (("modify", "p-0016abcdef"), 2, "no terminal"),
        (("list", "p-0016abcdef"), 2, "takes no ID"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    asked: Asking, arguments: tuple[str, ...], status: int, words: str
) -> None:
    done = asked.cli("proposals", *arguments)
    assert (done.status, done.out) == (status, "")
    assert words in done.talk
    assert in_force(asked, host(22)) == []


def test_for_good_it_stands_in_the_manifest_too(asked: Asking) -> None:
    path = asked.world.home.root / "claude-bottle.json"
    done = asked.cli("proposals", "approve", "p-0017abcdef", "--always", "--yes")
    assert done.status == 0, done.talk
    assert json.loads(path.read_text())["bottles"]["plain"]["egress"]["routes"] == [
        {"host": host(23), "inspect": False}
    ]
    assert host(23) in done.talk
    assert in_force(asked, host(23)) != []
    _, (outcome,) = lines_of(asked, "p-0017abcdef")
    assert (outcome["state"], outcome["file"]) == ("applied", "written")


@pytest.mark.parametrize(("number", "step"), [(24, "audited"), (25, "changed"), (26, "finished")])
def test_killed_while_it_is_done_for_good_the_log_says_what_was_written(
    asked: Asking, number: int, step: str
) -> None:
    path = asked.world.home.root / "claude-bottle.json"
    process = approver(asked, number, step, "always")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert settled(asked, number) == (step != "audited")
    written = host(number) in path.read_text()
    assert written == (step == "finished")
    (outcome,) = lines_of(asked, f"p-{number:04x}abcdef")[1]
    assert outcome["file"] == ("written" if written else "not written")


def test_what_an_editor_makes_of_it_is_granted_and_reached(asked: Asking, tmp_path: Path) -> None:
    with Upstream() as server:
        made = f"routes:\n- host: {host(27)}\n  methods: [GET]\n  paths: [/yes]\n  upstream: {server.url}\n"
        (tmp_path / "made").write_text(made)
        editor = {"EDITOR": f"cp {tmp_path / 'made'}", "VISUAL": ""}
        before = asked.fetch(f"https://{host(27)}/yes")
        done = asked.cli("proposals", "modify", "p-001babcdef", "--uses", "2", "--yes", **editor)
        assert done.status == 0, done.talk
        after = [asked.fetch(f"https://{host(27)}{path}") for path in ("/yes", "/no", "/yes", "/yes")]
    assert before != "200"
    assert after == ["200", "403", "200", "403"] or after == ["200", "403", "200", "000"]
    item = asked.seen.queue.find("p-001babcdef")
    assert item is not None
    assert item.state == "modified"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("routes:\n- host: h28.example.org\n  inspekt: false\n", "inspekt"),
        ("routes: []\n", "0"),
        ("routes:\n- host: 10.0.0.1\n  inspect: false\n", "not a public address"),
        ("routes:\n- {host: a.example.org}\n- {host: b.example.org}\n", "there are 2"),
        ("nonsense: [", ""),
    ],
)
def test_what_an_editor_breaks_is_told_with_its_place_and_kept(
    asked: Asking, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "made").write_text(text)
    done = asked.cli(
        "proposals",
        "modify",
        "p-001cabcdef",
        "--yes",
        EDITOR=f"cp {tmp_path / 'made'}",
        VISUAL="",
        TMPDIR=str(tmp_path),
    )
    assert done.status in (1, 2)
    assert words in done.talk
    assert "is kept in" in done.talk
    assert asked.seen.queue.find("p-001cabcdef").state == "pending"  # type: ignore[union-attr]


def test_a_rejection_tells_the_agent_why(asked: Asking) -> None:
    assert asked.cli("proposals", "reject", "001d", "--reason", "not today").status == 0
    item = asked.seen.queue.find("p-001dabcdef")
    assert item is not None
    assert item.answer is not None
    assert (item.state, item.answer.reason) == ("rejected", "not today")


def test_the_first_that_asked_stands_first_whatever_bottle_it_is_of(world: World, asked: Asking) -> None:
    prepared = world.prepare()
    prepared.paths.proposals.parent.mkdir(parents=True, exist_ok=True)
    from claude_bottle.operations.launch import dispose, launch
    from claude_bottle.policy.proposals import Queue
    from claude_bottle.policy.proposals_json import queue_to_json
    from tests.support.bottles import no_progress, nobody_asks

    early = Proposal("p-aaaaaaaaaa", wants("early.example.org"), 1000.0)
    prepared.paths.proposals.write_text(json.dumps(queue_to_json(Queue((early,)))))
    other = launch(world.context, prepared, no_progress, nobody_asks)
    try:
        items = listing(world.context, answered=True).items
        assert items[0].slug == other.metadata.slug
        assert {item.slug for item in items} == {asked.slug, other.metadata.slug}
        assert [item.proposal.at for item in items] == sorted(item.proposal.at for item in items)
    finally:
        dispose(other)


def test_a_plan_is_asked_anew_where_something_came_between(asked: Asking) -> None:
    """The bundle itself changes versions, when a grant runs out."""
    from claude_bottle.operations import edits

    versions: list[int] = []
    item = waiting(asked, 28)
    plan = granting(item.proposal.id, Terms())

    def disturbed(seen: Any, word: str) -> Any:
        versions.append(seen.live.version)
        if len(versions) == 1:
            adding = edits.adding([Route("between.example.org", inspect=False)], "routes", None, None)
            between = adding(seen, "d-between")
            from claude_bottle.operations.deciding import _change, _next

            said = _change(asked.launched.bottle, seen, _next(between, seen.live), (), {}, {}, "d-between")
            assert said["ok"]
        return plan(seen, word)

    done = carry_out(asked.world.context, asked.slug, "decision", disturbed)
    assert len(versions) == 2
    assert in_force(asked, host(28)) == [done.decision]
    assert in_force(asked, "between.example.org") == ["d-between"]


class Deaf:
    """A bottle whose answer to a change is lost on the way; `heard` says whether the change arrives."""

    def __init__(self, bottle: Any, *, heard: bool, speaks: bool) -> None:
        self.slug = bottle.slug
        self._bottle, self._heard, self._speaks = bottle, heard, speaks

    def control(self, request: Any, timeout: float = 5.0) -> Any:
        if request["op"] == "change" and not request["decision"].startswith("void-"):
            if self._heard:
                self._bottle.control(request, timeout)
            raise BottleError("no answer in time")
        if request["op"] == "applied" and not self._speaks:
            raise BottleError("no answer in time")
        return self._bottle.control(request, timeout)


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("speaks", [True, False])
def test_an_answer_that_is_lost_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: bool, speaks: bool
) -> None:
    with asking(make_world(tmp_path, "bubblewrap"), [proposal(0, wants(host(0)))]) as found:
        deaf = Deaf(found.launched.bottle, heard=heard, speaks=speaks)
        with monkeypatch.context() as patched:
            patched.setattr(deciding, "running", lambda context, slug: (deaf, found.launched.metadata))
            with pytest.raises(BottleError, match="in the audit log" if speaks else "not known yet"):
                carry_out(found.world.context, found.slug, "decision", granting("p-0000abcdef", Terms()))
        states = [line["state"] for line in audit.read(found.world.home) if line["kind"] == "outcome"]
        assert states == (["applied" if heard else "void"] if speaks else [])
        assert settled(found, 0) is heard


def test_a_bottle_that_ends_first_gives_its_decision_an_end(tmp_path: Path) -> None:
    with asking(make_world(tmp_path, "bubblewrap"), [proposal(0, wants(host(0)))]) as found:
        approver(found, 0, "audited").communicate(timeout=60)
        found.launched.bottle.stop()
        assert found.cli("stop", found.slug).status == 0
        kinds = [(line["kind"], line.get("state")) for line in audit.read(found.world.home)]
        assert kinds[:2] == [("start", None), ("proposal", None)]
        assert kinds[2:5] == [("decision", None), ("outcome", "ended"), ("stop", None)]
