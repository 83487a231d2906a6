"""An agent that asks where nobody is there, is slow, or is told of it by a command of their own."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.support.e2e import Cli, eventually, scripted, write
from tests.support.e2e_asking import asking, waiting
from tests.support.e2e_terminal import READY, terminal

pytestmark = pytest.mark.needs("envoy", "claude")


def first_noted(cli: Cli) -> dict[str, Any]:
    """The line about the first proposal, as soon as there is one."""
    found: list[dict[str, Any]] = []

    def noted() -> bool:
        said = cli("audit", "show", "--kind", "proposal", "--json").ok().text
        found[:] = [json.loads(line) for line in said.splitlines()]
        return bool(found)

    eventually(noted)
    (line,) = found
    return line


def kinds(cli: Cli) -> list[str]:
    return [row[1] for row in cli("audit", "show").ok().rows if row[1] != "denials"]


@pytest.mark.needs("tmux")
def test_what_is_asked_beside_a_terminal_is_in_the_log_before_anybody_looks(cli: Cli) -> None:
    cli.repository()
    with scripted(
        asking("egress-block", host="files.example.org"),
        {"expect": [{"contains": ["rejected", "not today"]}], "say": "Then not."},
    ) as model:
        cli.manifest(model.url)
        with terminal(cli) as screen:
            screen.enter(f"{shlex.join(cli.command)} start {cli.agent} --yes")
            screen.see(READY)
            screen.enter("please")
            noted = first_noted(cli)
            (slug,) = cli.slugs()
            assert (noted["slug"], noted["agent"]) == (slug, cli.agent)
            assert noted["asked"]["asked"]["route"]["host"] == "files.example.org"
            cli("proposals", "reject", noted["proposal"], "--reason", "not today").ok()
            screen.see("Then not.")
            cli("stop", slug).ok()
    assert (model.failures, model.finished) == ((), True)
    assert kinds(cli) == ["start", "proposal", "decision", "outcome", "stop"]
    (row,) = cli("logs", slug, "proposals").ok().rows  # of a preserved one
    assert (row[2], row[5]) == ("rejected", f"{decision(cli)}: not today")
    cli("audit", "verify").ok()


def decision(cli: Cli) -> str:
    (line,) = cli("audit", "show", "--kind", "decision", "--json").ok().text.splitlines()
    return str(json.loads(line)["decision"])


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
    (noted,) = cli("audit", "show", "--kind", "proposal").ok().rows
    slug, what = noted[2:4]
    assert "egress-block; files.example.org; I\\x0aneed it" in what
    assert (cli.slugs(), cli.preserved()) == ([], [])  # it is gone, and this is left of it
    (row,) = cli("logs", slug, "proposals").ok().rows
    assert row[2:5] == ["rejected", "files.example.org  any method  any path", "I\\x0aneed it"]
    assert "nobody is there to answer" in row[5]
    (found,) = [json.loads(line) for line in cli("logs", slug, "proposals", "--json").ok().text.splitlines()]
    assert (found["schema"], found["slug"], found["id"], found["state"]) == (1, slug, row[1], "rejected")
    assert found["asked"]["justification"] == "I\nneed it"
    cli("logs", slug, "proposals", "-f").failed(2, "takes no -f")
    cli("logs", "-f", slug, "proposals").failed(2, "takes no -f")


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
            noted = first_noted(cli)
            assert noted["from"]["pid"] == running.pid  # nobody else has looked yet
            (slug,) = cli.slugs()
            (row,) = cli("logs", slug, "proposals").ok().rows
            assert (row[1], row[2], row[5]) == (noted["proposal"], "pending", "-")
            cli("proposals", "reject", "--reason", "not today", waiting(cli)).ok()
            out, talk = running.communicate()
    assert (model.failures, model.finished) == ((), True), talk
    assert out == b"Then not.\n"
    assert kinds(cli) == ["start", "proposal", "decision", "outcome", "stop"]


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
