"""Supervision from the agent's end: real Claude Code is denied, asks, waits, is told, and goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.backend import load_backend
from claude_bottle.backend.base import Bottle
from claude_bottle.errors import BottleError
from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute, live_from_json, live_to_json
from claude_bottle.policy.proposals import APPROVED, REJECTED, Answer, Proposal
from claude_bottle.policy.proposals_json import answer_to_json, queue_from_json
from claude_bottle.policy.rules import parse_upstream
from claude_bottle.scripted.server import ScriptedModel
from claude_bottle.sidecars.egress.certs import CertAndKey, make_leaves
from claude_bottle.state import store
from claude_bottle.state.paths import Home
from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_asking import TOOL, tool

pytestmark = pytest.mark.needs("envoy", "claude")

ASK = {"host": "asked.example.org", "methods": ["GET"], "justification": "The manual is there."}
READ = "curl -s -m 20 -o /dev/null -w '%{http_code}/%{http_connect} ' https://asked.example.org/"
PORT = "python3 -c \"import socket; s = socket.socket(); print(s.connect_ex(('127.0.0.1', 9100)))\""


class Operator:
    """Answers what waits, by the control channel of the bottle."""

    def __init__(self, cli: Cli) -> None:
        self._home = Home(cli.home)
        self._cli = cli

    def bottle(self) -> Bottle | None:
        for slug in self._cli.slugs():
            metadata = store.load(self._home, slug)
            found = load_backend(metadata.backend).find(metadata, self._home.bottle(slug))
            if found is not None:
                return found
        return None

    def look(self) -> tuple[Bottle, LivePolicy, tuple[Proposal, ...]] | None:
        bottle = self.bottle()
        if bottle is None:
            return None
        try:
            said = bottle.control({"op": "look"}, 20.0)
        except BottleError:
            return None  # it starts
        assert said["ok"], said
        return bottle, live_from_json(said["live"]), queue_from_json(said["proposals"]).proposals

    def pending(self) -> tuple[Bottle, LivePolicy, Proposal]:
        found: list[tuple[Bottle, LivePolicy, Proposal]] = []

        def waits() -> bool:
            seen = self.look()
            if seen is not None:
                found.extend((seen[0], seen[1], item) for item in seen[2] if item.answer is None)
            return bool(found)

        eventually(waits)
        return found[0]

    def approve(self, bounds: Bounds = Bounds(), upstream: str | None = None) -> Proposal:
        bottle, policy, proposal = self.pending()
        route = proposal.asked.route
        assert route is not None
        if upstream is not None:  # the operator's own server plays the internet
            route = route._replace(upstream=parse_upstream(upstream))
        authority = bottle.control({"op": "authority"}, 20.0)
        leaves = make_leaves(CertAndKey(authority["cert"], authority["key"]), [route.host])
        after = LivePolicy((*policy.routes, LiveRoute(route, bounds, "d-approve")), policy.version + 1)
        said = bottle.control(
            {
                "op": "change",
                "expect": policy.version,
                "live": live_to_json(after),
                "leaves": {name: [leaf.cert_pem, leaf.key_pem] for name, leaf in leaves.items()},
                "credentials": {},
                "answers": [
                    [
                        proposal.id,
                        answer_to_json(Answer(APPROVED, "d-approve", time.time(), "fine", route, bounds)),
                    ]
                ],
                "decision": "d-approve",
            },
            20.0,
        )
        assert said["ok"], said
        return proposal

    def reject(self, reason: str) -> Proposal:
        bottle, _, proposal = self.pending()
        said = bottle.control(
            {
                "op": "change",
                "expect": None,
                "live": None,
                "leaves": {},
                "credentials": {},
                "answers": [[proposal.id, answer_to_json(Answer(REJECTED, "d-reject", time.time(), reason))]],
                "decision": "d-reject",
            },
            20.0,
        )
        assert said["ok"], said
        return proposal


@contextmanager
def beside(work: Any) -> Iterator[list[Any]]:
    """What the operator does while the agent waits; its result, or its error, is the test's."""
    done: list[Any] = []

    def running() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            done.append(error)

    thread = threading.Thread(target=running, daemon=True)
    thread.start()
    yield done
    thread.join(60)
    assert done
    if isinstance(done[0], BaseException):
        raise done[0]


def asks(cli: Cli, slug: str) -> list[str]:
    """The command that asks Claude Code in a bottle to read, as a start of it would."""
    arguments = json.dumps(["claude", *prepared_arguments(cli), "-p", "Read the manual."])
    run = f"import os, json; os.execvp('claude', json.loads({arguments!r}))"
    return ["exec", slug, "--", "python3", "-c", run]


def offered(model: ScriptedModel) -> list[set[str]]:
    """The tools that were there from the start, of every request of the conversation."""
    found = []
    for request in model.requests:
        body: Any = request.body
        tools = body.get("tools") if hasattr(body, "get") else None
        names = {item["name"] for item in tools or () if not item.get("defer_loading")}
        if "Bash" in names:
            found.append(names)
    return found


def test_an_agent_is_denied_asks_is_told_and_goes_on_until_the_grant_is_used_up(cli: Cli) -> None:
    operator = Operator(cli)
    with scripted(
        {**bash(READ), "system": {"contains": "You work in a bottle"}},
        {"expect": [{"contains": "/403"}], **tool("egress-block", **ASK, duration="10m")},
        {
            "expect": [{"contains": ["Approved", "asked.example.org", "fine", "2 uses"]}],
            **tool("list-egress-routes"),
        },
        {"expect": [{"contains": "asked.example.org"}], **tool("egress-block", **ASK)},
        {"expect": [{"contains": "in-force"}], **bash(f"{READ}; {READ}; {READ}")},
        {"expect": [{"contains": "200/200 200/200 ", "matches": "000/403 ?$"}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        with beside(lambda: operator.approve(Bounds(None, 2), model.url)) as answered:
            done = cli("run", cli.agent, "-p", "Read the manual.", "--yes", "--wait-for-operator")
    assert (model.failures, model.finished) == ((), True), done.everything
    done.ok()
    (proposal,) = answered
    assert (proposal.asked.justification, proposal.asked.wish) == ("The manual is there.", 600.0)
    assert all(TOOL.format("egress-block") in names for names in offered(model))
    cli.assert_nothing_is_left()


def test_a_rejection_is_told_with_its_reason_and_holds(cli: Cli) -> None:
    operator = Operator(cli)
    with scripted(
        tool("pipelock-block", url="https://asked.example.org/x?q=1", justification="why"),
        {
            "expect": [{"contains": ["Rejected", "use the mirror"]}],
            **tool("pipelock-block", url="https://asked.example.org/x?q=1", justification="please"),
        },
        {"expect": [{"contains": ["Rejected", "use the mirror"]}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        with beside(lambda: operator.reject("use the mirror")):
            done = cli("run", cli.agent, "-p", "Read the manual.", "--yes", "--wait-for-operator")
    assert (model.failures, model.finished) == ((), True), done.everything
    done.ok()


def test_claude_is_killed_while_it_waits_and_asks_the_same_when_it_comes_back(cli: Cli) -> None:
    operator = Operator(cli)
    with scripted(
        tool("egress-block", **ASK),
        {"expect": [{"contains": ["Approved", "fine"]}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        slug = cli.start()
        with cli.begun(*asks(cli, slug)) as first:
            ident = operator.pending()[2].id
            first.kill()
            first.wait()
        cli.kill_claude(slug)
        found = operator.look()
        assert found is not None
        assert [(item.id, item.state, item.told) for item in found[2]] == [(ident, "pending", False)]
        with beside(lambda: operator.approve() if _asked_twice(operator) else None):
            done = cli(*asks(cli, slug))
        assert (model.failures, model.finished) == ((), True), done.everything
        found = operator.look()
        assert found is not None
        assert [(item.id, item.times, item.told) for item in found[2]] == [(ident, 2, True)]
        cli("stop", slug).ok()


def _asked_twice(operator: Operator) -> bool:
    eventually(lambda: operator.pending()[2].times == 2)
    return True


def prepared_arguments(cli: Cli) -> list[str]:
    from claude_bottle.operations.claude import arguments

    return arguments("", None, supervised=True)


def test_the_agents_own_servers_and_those_of_the_project_stay(cli: Cli) -> None:
    server = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {}
    if asked["method"] == "initialize":
        result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "own", "version": "1"}}
    elif asked["method"] == "tools/list":
        result = {"tools": [{"name": "hello", "description": "x", "inputSchema": {"type": "object"}}]}
    elif asked["method"] == "tools/call":
        result = {"content": [{"type": "text", "text": "hello from " + sys.argv[1]}]}
    elif asked["method"] != "ping":
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
    cli.repository()
    (cli.project / "own.py").write_text(server)
    settings = {
        "mcpServers": {"project": {"command": "python3", "args": ["own.py", "project"], "alwaysLoad": True}}
    }
    (cli.project / ".mcp.json").write_text(json.dumps(settings))
    cli.give()
    cli.git("add", ".")
    cli.git("commit", "-qm", "A server")
    with scripted(
        {"tools": [{"name": "mcp__project__hello", "input": {}}]},
        {"expect": [{"contains": "hello from project"}], **tool("list-egress-routes")},
        {"expect": [{"contains": "api.anthropic.com"}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        done = cli("run", cli.agent, "-p", "Say hello.", "--yes")
    assert (model.failures, model.finished) == ((), True), done.everything


def test_where_the_agent_may_propose_nothing_nothing_listens(cli: Cli) -> None:
    with scripted(bash(PORT), {"expect": [{"contains": "111"}], "say": "Done."}) as model:
        cli.manifest(model.url, bottle="supervise: false\n")
        slug = cli.start()
        assert cli("list").ok().rows[0][3] == "egress,firewall"
        assert cli.inside(slug, PORT).ok().text.strip() == "111"
        cli("stop", slug).ok()
        done = cli("run", cli.agent, "-p", "Look.", "--yes")
    assert (model.failures, model.finished) == ((), True), done.everything
    names = offered(model)
    assert names
    assert not [name for found in names for name in found if "claude-bottle" in name]


def test_the_proposals_of_a_bottle_that_ended_are_kept_for_its_next_life(cli: Cli, tmp_path: Path) -> None:
    operator = Operator(cli)
    with scripted(
        tool("egress-block", **ASK), {"expect": [{"contains": "Rejected"}], "say": "Done."}
    ) as model:
        cli.manifest(model.url)
        slug = cli.start()
        with cli.begun(*asks(cli, slug)) as first:
            ident = operator.pending()[2].id
            cli.kill(slug)
            first.wait()
        eventually(lambda: not cli.slugs())
        cli("resume", slug, "--detach", "--yes").ok()
        assert operator.pending()[2].id == ident
        cli("stop", slug).ok()
