"""Supervision from both ends: real Claude Code asks, the operator's commands answer, and the bounds end it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.e2e import Cli, bash, scripted
from tests.support.e2e_asking import tool, waiting
from tests.support.listeners import Upstream

pytestmark = [
    pytest.mark.needs("envoy", "claude"),
    pytest.mark.backends("bubblewrap"),
]  # an upstream on loopback

HOST = "asked.example.org"
GET = f"curl -s -m 20 -o /dev/null -w 'got %{{http_code}}.' https://{HOST}/manual; true"
ASK = {"host": HOST, "methods": ["GET"], "paths": ["/manual"], "justification": "The manual is there."}
ASKS = tool("egress-block", **ASK)


def test_an_agent_is_denied_asks_gets_it_for_once_and_is_denied_again(cli: Cli, tmp_path: Path) -> None:
    with (
        Upstream() as server,
        scripted(
            {**bash(GET), "system": {"contains": "You work in a bottle"}},
            {"expect": [{"contains": "got 000."}], **ASKS},
            {"expect": [{"contains": [HOST, "1 use"]}], **bash(GET)},
            {"expect": [{"contains": "got 200."}], **bash(GET)},
            {"expect": [{"contains": "got 000."}], "say": "Done."},
        ) as model,
    ):
        cli.manifest(model.url)
        made = tmp_path / "made.yaml"
        made.write_text(
            f"routes:\n- host: {HOST}\n  methods: [GET]\n  paths: [/manual]\n  upstream: {server.url}\n"
        )
        talks: list[str] = []

        def operate() -> None:
            ident = waiting(cli)
            talks.append(cli("proposals", "show", ident).ok().text)
            edits = {"VISUAL": "", "EDITOR": f"cp {made}"}
            talks.append(cli("proposals", "modify", ident, "--once", "--yes", env=edits).ok().talk)

        beside = threading.Thread(target=operate, daemon=True)
        beside.start()
        done = cli("run", cli.agent, "-p", "Read the manual.", "--yes", "--wait-for-operator")
        beside.join(60)
        assert [request.line for request in server.requests] == ["GET /manual HTTP/1.1"]
    assert (model.failures, model.finished) == ((), True), done.everything
    done.ok()
    page, said = talks
    assert "| The manual is there." in page
    assert f"deny  {HOST}:443" in page  # what it tried
    assert "1 use left" in said
    kinds = [row[1] for row in cli("audit", "show", "--agent", cli.agent).ok().rows]
    assert kinds == ["start", "decision", "outcome", "stop", "denials"]
    cli("audit", "verify").ok()
    cli.assert_nothing_is_left()
