"""Supervision from the agent's end: real Claude Code is denied, asks, waits, is told, and goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from claude_bottle.operations.claude import arguments
from claude_bottle.scripted.server import ScriptedModel
from tests.support.e2e import Cli, bash, eventually, scripted
from tests.support.e2e_terminal import await_written
from tests.support.operators import Operator, beside

pytestmark = pytest.mark.needs("envoy", "claude")

TOOL = "mcp__claude-bottle__{}"
ASK: dict[str, Any] = {
    "host": "asked.example.org",
    "methods": ["GET"],
    "justification": "The manual is there.",
}
READ = "curl -s -m 20 -o /dev/null -w '%{http_code}/%{http_connect} ' https://asked.example.org/"
PORT = "python3 -c \"import socket; s = socket.socket(); print(s.connect_ex(('127.0.0.1', 9100)))\""


def tool(name: str, **arguments: object) -> dict[str, Any]:
    return {"tools": [{"name": TOOL.format(name), "input": arguments}]}


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
        {"expect": [{"contains": "403/200"}], **tool("egress-block", **ASK, duration="10m")},
        {
            "expect": [{"contains": ["Approved", "asked.example.org", "2 uses"]}],
            **tool("list-egress-routes"),
        },
        {"expect": [{"contains": "asked.example.org"}], **tool("egress-block", **ASK)},
        {"expect": [{"contains": "in-force"}], **bash(f"{READ}; {READ}; {READ}")},
        {"expect": [{"contains": "200/200 200/200 ", "matches": "403/200 ?$"}], "say": "Done."},
    ) as model:
        own = f"  - {{host: asked.example.org, upstream: '{model.url}', paths: [/front]}}\n"
        cli.manifest(model.url, bottle=own)
        with beside(lambda: operator.approve("--uses", "2")):
            done = cli("run", cli.agent, "-p", "Read the manual.", "--yes", "--wait-for-operator")
    assert (model.failures, model.finished) == ((), True), done.everything
    done.ok()
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
        {"expect": [{"contains": "Approved"}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        slug = cli.start()
        with cli.begun("exec", slug, "--", *claude("Read the manual.")) as first:
            ident = operator.pending()
            first.kill()
            first.wait()
        cli.kill_claude(slug)
        assert [(item["id"], item["state"], item["told"]) for item in operator.asked()] == [
            (ident, "pending", False)
        ]
        with beside(lambda: operator.approve(times=2)):
            done = cli("exec", slug, "--", *claude("Read the manual."))
        assert (model.failures, model.finished) == ((), True), done.everything
        assert [(item["id"], item["times"], item["told"]) for item in operator.asked()] == [(ident, 2, True)]
        cli("stop", slug).ok()


def claude(prompt: str, *more: str) -> list[str]:
    """Claude Code as a bottle runs it, without a terminal."""
    argv = json.dumps(["claude", *arguments("", None, supervised=True), *more, "-p", prompt])
    return ["python3", "-c", f"import os, json; os.execvp('claude', json.loads({argv!r}))"]


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


def test_what_was_asked_in_a_bottle_that_was_killed_waits_until_it_is_resumed(cli: Cli) -> None:
    operator = Operator(cli)
    with scripted(
        tool("egress-block", **ASK),
        {"expect": [{"contains": "interrupted"}], **tool("egress-block", **ASK)},
        {"expect": [{"contains": ["Rejected", "not today"]}], "say": "Done."},
    ) as model:
        cli.manifest(model.url)
        slug = cli.start()
        with cli.begun("exec", slug, "--", *claude("Read the manual.")) as first:
            ident = operator.pending()
            await_written(cli, slug, ASK["justification"])
            cli.kill(slug)
            first.wait()
        eventually(lambda: not cli.slugs())
        cli("resume", slug, "--detach", "--yes").ok()
        assert operator.pending() == ident
        with beside(lambda: operator.reject("not today", times=2)):
            done = cli("exec", slug, "--", *claude("Go on.", "--continue"))
        assert (model.failures, model.finished) == ((), True), done.everything
        assert [(item["id"], item["told"]) for item in operator.asked()] == [(ident, True)]
        cli("stop", slug).ok()
