"""An agent that asks where nobody is there, is slow, or is told of it by a command of their own."""

from __future__ import annotations

import json

import pytest

from tests.support.e2e import Cli, scripted, write
from tests.support.e2e_asking import asking, waiting

pytestmark = pytest.mark.needs("envoy", "claude")


def test_run_rejects_at_once_and_says_that_nobody_is_there(cli: Cli) -> None:
    cli.repository()
    with scripted(
        asking("egress-block", host="files.example.org"),
        {"expect": [{"contains": ["rejected", "nobody is there"]}], "say": "I go on without it."},
    ) as model:
        cli.manifest(model.url)
        done = cli("run", cli.agent, "-p", "please", "--yes").ok()
    assert (model.failures, model.finished) == ((), True)
    assert done.text == "I go on without it.\n"
    assert "rejected at once" in done.talk


def test_what_nobody_answers_expires_and_the_operator_is_told_once_in_ten_seconds(cli: Cli) -> None:
    cli.repository()
    told = cli.root / "told"
    tell = write(cli.root / "tell", f'#!/bin/sh\nenv | grep ^CLAUDE_BOTTLE_ >> {told}\necho "$@" >> {told}\n')
    tell.chmod(0o755)
    with scripted(
        asking("egress-block", host="one.example.org"),
        {
            "expect": [{"contains": ["expired", "nobody has answered within 4 s"]}],
            **asking("egress-block", host="two.example.org"),
        },
        {"expect": [{"contains": "expired"}], "say": "Nobody came."},
    ) as model:
        policy = f"supervise: {{unanswered: reject, after: 4s, notify: [{tell}, 'a; word']}}\n"
        cli.manifest(model.url, bottle=policy)
        done = cli("run", cli.agent, "-p", "please", "--yes").ok()
    assert (model.failures, model.finished) == ((), True)
    assert done.text == "Nobody came.\n"
    lines = told.read_text().splitlines()
    assert lines.count("a; word") == 1, lines
    (text,) = [line for line in lines if line.startswith("CLAUDE_BOTTLE_TEXT=")]
    assert "one.example.org" in text
    assert r"I\x0aneed it" in text
    assert "CLAUDE_BOTTLE_MORE=0" in lines
    assert not [line for line in lines if cli.key in line]


def test_a_flag_makes_run_wait_and_the_answer_comes(cli: Cli) -> None:
    cli.repository()
    with scripted(
        asking("egress-block", host="files.example.org"),
        {"expect": [{"contains": ["rejected", "not today"]}], "say": "Then not."},
    ) as model:
        cli.manifest(model.url)
        with cli.begun("run", cli.agent, "-p", "please", "--yes", "--wait-for-operator=10m") as running:
            cli("proposals", "reject", waiting(cli), "--reason", "not today").ok()
            out, talk = running.communicate()
    assert (model.failures, model.finished) == ((), True), talk
    assert out == b"Then not.\n"


@pytest.mark.backends("bubblewrap")
def test_where_there_is_no_image_a_tool_is_refused_with_the_reason(cli: Cli) -> None:
    cli.repository()
    with scripted(
        asking("capability-block", packages=["tree"]),
        {"expect": [{"contains": ["rejected", "see the host"]}], "say": "Then not."},
    ) as model:
        cli.manifest(model.url)
        with cli.begun("run", cli.agent, "-p", "please", "--yes", "--wait-for-operator") as running:
            ident = waiting(cli)
            assert "has no image" in cli("proposals", "show", ident).ok().text
            cli("proposals", "approve", ident).failed(2, "has no image", "reject the proposal")
            cli("proposals", "reject", ident, "--reason", "see the host").ok()
            running.communicate()
    assert (model.failures, model.finished) == ((), True)


@pytest.mark.backends("docker")
def test_a_run_goes_on_in_the_bottle_that_was_rebuilt(cli: Cli) -> None:
    cli.repository()
    with scripted(
        asking("capability-block", dockerfile="RUN echo mine > /etc/added"),
        {"expect": [{"contains": "approved"}], "say": "I wait for it."},
        {
            "prompt": {"contains": "was rebuilt with RUN echo mine"},
            "tools": [{"name": "Bash", "input": {"command": "cat /etc/added"}}],
        },
        {"expect": [{"contains": "mine"}], "say": "It is there now."},
    ) as model:
        cli.manifest(model.url)
        with cli.begun("run", cli.agent, "-p", "please", "--yes", "--json", "--wait-for-operator") as running:
            ident = waiting(cli)
            shown = cli("proposals", "show", ident).ok().text
            assert "!!" in shown
            assert "the engine's network" in shown
            cli("proposals", "approve", ident, timeout=600).ok()
            out, talk = running.communicate()
    assert (model.failures, model.finished) == ((), True), talk
    assert json.loads(out)["text"] == "It is there now."
    assert (cli.slugs(), cli.preserved()) == ([], [])
