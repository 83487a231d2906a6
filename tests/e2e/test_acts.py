"""What a dashboard does, through the pipe it does it with: real bottles, and a parent that may go at any time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from claude_bottle.dashboard.acting import (
    Act,
    Ask,
    Confirm,
    Ended,
    Event,
    Failed,
    Paired,
    Put,
    Said,
    Stepped,
)
from claude_bottle.policy.proposals import Queue
from claude_bottle.policy.proposals_json import queue_to_json
from claude_bottle.scripted.server import ScriptedModel
from claude_bottle.state.paths import Home
from tests.support.e2e import PATIENCE, ROOT, Cli, eventually
from tests.support.proposing import proposal, wants

pytestmark = [pytest.mark.needs("envoy", "claude"), pytest.mark.backends("bubblewrap")]


class Desk:
    """Who acts, and all that was told."""

    def __init__(self, cli: Cli, *words: str) -> None:
        self._changed = threading.Condition()
        self.events: list[Event] = []
        self.act = Act(words, self._told, cli.env, cli.project)

    def _told(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, kind: type[Event], count: int = 1) -> Event:
        """That one of a kind."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self.all(kind)) >= count, PATIENCE)
            assert found, self.events
            return self.all(kind)[count - 1]

    def all(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def end(self) -> int:
        """Its status."""
        ended = self.until(Ended)
        assert isinstance(ended, Ended)
        return ended.status

    @property
    def said(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Said))


@pytest.fixture
def operator_cli(cli: Cli, idle: ScriptedModel) -> Cli:
    cli.repository()
    cli.manifest(idle.url)
    return cli


def assert_nothing_is_there(cli: Cli) -> None:
    cli.assert_nothing_is_left()
    assert cli.slugs() == []
    assert cli.preserved() == []
    assert [path.name for path in cli.state.glob("*") if path.is_dir()] == []


def test_a_start_is_shown_asked_and_told_and_its_bottle_belongs_to_nobody(operator_cli: Cli) -> None:
    cli = operator_cli
    desk = Desk(cli, "start", cli.agent, "--detach")
    desk.until(Confirm)
    plan = {event.label: event.text for event in desk.events if isinstance(event, Paired)}
    assert cli.agent in plan["agent"]
    assert "bubblewrap" in plan["backend"]
    assert not desk.all(Stepped)
    desk.act.confirm(True)
    assert desk.end() == 0
    assert desk.all(Stepped)
    (put,) = desk.all(Put)
    assert isinstance(put, Put)
    assert cli.slugs() == [put.line]
    assert not desk.all(Failed)
    assert cli.inside(put.line, "id -un").ok().text == "node\n"
    ending = Desk(cli, "stop", put.line)
    assert ending.end() == 0
    assert f"{put.line} stopped" in ending.said
    again = Desk(cli, "resume", put.line, "--detach")
    again.until(Confirm)
    again.act.confirm(True)
    assert again.end() == 0
    assert again.all(Put) == [put]
    assert cli.slugs() == [put.line]


@pytest.mark.parametrize("how", ["no", "given up", "ended"])
def test_without_a_yes_nothing_is_there(operator_cli: Cli, how: str) -> None:
    desk = Desk(operator_cli, "start", operator_cli.agent, "--detach")
    desk.until(Confirm)
    {"no": lambda: desk.act.confirm(False), "given up": desk.act.give_up, "ended": desk.act.end}[how]()
    assert desk.end() == (143 if how == "ended" else 0)
    assert not desk.all(Stepped)
    assert not desk.all(Put)
    assert_nothing_is_there(operator_cli)


def test_what_fails_says_why_and_what_to_do(operator_cli: Cli) -> None:
    desk = Desk(operator_cli, "start", f"{operator_cli.agent}x", "--detach")
    assert desk.end() == 3
    (failed,) = desk.all(Failed)
    assert isinstance(failed, Failed)
    assert f"{operator_cli.agent}x" in failed.message
    assert operator_cli.agent in failed.hint
    assert_nothing_is_there(operator_cli)


def test_a_launch_that_fails_says_why_and_leaves_nothing(operator_cli: Cli, idle: ScriptedModel) -> None:
    cli = operator_cli
    cli.manifest(idle.url, agent="skills: [no-such-skill]\n")
    desk = Desk(cli, "start", cli.agent, "--detach", "--yes")
    assert desk.end() == 3
    (failed,) = desk.all(Failed)
    assert "no-such-skill" in str(failed)
    assert_nothing_is_there(cli)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_start_that_is_ended_in_its_midst_leaves_nothing(operator_cli: Cli, steps: int) -> None:
    cli = operator_cli
    desk = begun(cli, steps)
    desk.act.end()
    desk.act.end()
    assert desk.end() == 143, desk.events
    assert not desk.all(Put)
    assert_nothing_is_there(cli)


def test_a_start_that_is_ended_as_it_is_done_has_done_it_or_nothing(operator_cli: Cli) -> None:
    cli = operator_cli
    desk = begun(cli, steps=7)
    desk.act.end()
    desk.end()
    if not cli.slugs():
        assert not desk.all(Put)
        assert_nothing_is_there(cli)
        return
    (slug,) = cli.slugs()
    assert cli.inside(slug, "id -un").ok().text == "node\n"


def begun(cli: Cli, steps: int) -> Desk:
    """A launch that was agreed to, when so many of its steps are done."""
    desk = Desk(cli, "start", cli.agent, "--detach")
    desk.until(Confirm)
    desk.act.confirm(True)
    if steps:
        desk.until(Stepped, steps)
    return desk


SECRET = "the-secret-of-the-operator"


def test_a_value_is_asked_for_and_only_the_bottle_gets_it(operator_cli: Cli, idle: ScriptedModel) -> None:
    cli = operator_cli
    cli.manifest(idle.url, bottle='env:\n  PASSPHRASE: "?What is the passphrase?"\n  TICKET: "?"\n')
    desk = Desk(cli, "start", cli.agent, "--detach")
    desk.until(Confirm)
    desk.act.confirm(True)
    assert desk.until(Ask) == Ask("What is the passphrase?")
    desk.act.answer(SECRET)
    assert "TICKET" in str(desk.until(Ask, 2))
    process = Path(f"/proc/{desk.act.pid}")
    shown = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    assert cli.key.encode() in shown  # it is the operator's own environment
    assert SECRET.encode() not in shown
    desk.act.answer("ticket-77")
    assert desk.end() == 0, desk.events
    (slug,) = cli.slugs()
    assert cli.inside(slug, 'echo "$PASSPHRASE|$TICKET"').text == f"{SECRET}|ticket-77\n"
    assert SECRET not in str(desk.events)
    stored = [path for path in cli.root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert stored == []
    assert not any(SECRET in line for line in cli.leftovers())


@pytest.mark.parametrize("how", ["given up", "ended"])
def test_a_value_that_is_not_given_starts_nothing(operator_cli: Cli, idle: ScriptedModel, how: str) -> None:
    cli = operator_cli
    cli.manifest(idle.url, bottle='env:\n  PASSPHRASE: "?What is the passphrase?"\n')
    desk = Desk(cli, "start", cli.agent, "--detach", "--yes")
    desk.until(Ask)
    (desk.act.give_up if how == "given up" else desk.act.end)()
    assert desk.end() == (2 if how == "given up" else 143)
    if how == "given up":
        assert "nobody has answered" in str(desk.until(Failed))
    assert_nothing_is_there(cli)


def test_proposals_are_answered(operator_cli: Cli) -> None:
    cli = operator_cli
    slug = cli.start()
    cli("stop", slug).ok()
    wanted, unwanted = proposal(1, wants("wanted.example.org")), proposal(2, wants("unwanted.example.org"))
    paths = Home(cli.home).bottle(slug)
    paths.proposals.write_text(json.dumps(queue_to_json(Queue((wanted, unwanted)))))
    cli("resume", slug, "--detach", "--yes").ok()
    assert [row[0] for row in cli("proposals").ok().rows] == [wanted.id, unwanted.id]
    approving = Desk(cli, "proposals", "approve", wanted.id, "--for", "1h")
    assert approving.end() == 0, approving.events
    assert "is approved" in approving.said
    assert "wanted.example.org" in approving.said
    rejecting = Desk(cli, "proposals", "reject", unwanted.id, "--reason", "no\x1b]2;owned\x07")
    assert rejecting.end() == 0, rejecting.events
    assert f"{unwanted.id} of {slug} is rejected" in rejecting.said
    late = Desk(cli, "proposals", "approve", unwanted.id)
    assert late.end() != 0
    assert late.all(Failed)
    assert cli("proposals").ok().text == ""
    assert "wanted.example.org" in cli("allowlist", "show", slug).ok().text + cli("routes", "show", slug).text
    modifying = Desk(cli, "proposals", "modify", unwanted.id)
    assert modifying.end() == 2
    assert "no terminal" in str(modifying.until(Failed))


# The dashboard goes

_PARENT = """
import os, sys, threading
sys.path[:0] = {path!r}
from pathlib import Path
from claude_bottle.dashboard.acting import Act, Confirm
def told(event):
    os.write(1, f"{{event}}\\n".encode())
    if isinstance(event, Confirm) and sys.argv[1] == "yes":
        act.confirm(True)
act = Act(sys.argv[2:], told, os.environ, Path.cwd())
threading.Event().wait()
"""


@contextmanager
def dashboard(cli: Cli, yes: bool) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], None]]]:
    """A process that starts the agent, and what waits for a word of it."""
    words = ("yes" if yes else "no", "start", cli.agent, "--detach")
    with subprocess.Popen(
        [sys.executable, "-I", "-c", _PARENT.format(path=[str(ROOT)]), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=cli.project,
        env=cli.env,
        start_new_session=True,
    ) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")

        def until(word: str) -> None:
            assert any(word.encode() in line for line in lines), f"{word} was never told"

        try:
            yield process, until
        finally:
            watchdog.cancel()
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_dashboard_that_goes_after_the_yes_takes_no_bottle_with_it(
    operator_cli: Cli, number: signal.Signals
) -> None:
    cli = operator_cli
    with dashboard(cli, yes=True) as (process, until):
        until("Stepped")
        process.send_signal(number)
    eventually(lambda: bool(cli.slugs()) and not cli.processes("claude_bottle.cli.pipe"))
    (slug,) = cli.slugs()
    assert cli.inside(slug, "id -un").ok().text == "node\n"


def test_a_dashboard_that_goes_before_the_yes_starts_nothing(operator_cli: Cli) -> None:
    with dashboard(operator_cli, yes=False) as (process, until):
        until("Confirm")
        assert operator_cli.processes("claude_bottle.cli.pipe")
        process.kill()
    assert_nothing_is_there(operator_cli)


def test_a_dashboard_that_goes_before_a_value_was_given_starts_nothing(
    operator_cli: Cli, idle: ScriptedModel
) -> None:
    operator_cli.manifest(idle.url, bottle='env:\n  PASSPHRASE: "?What is the passphrase?"\n')
    with dashboard(operator_cli, yes=True) as (process, until):
        until("Ask")
        process.kill()
    assert_nothing_is_there(operator_cli)
