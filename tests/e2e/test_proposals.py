"""Supervision from both ends: real Claude Code asks, the operator's commands answer, and the bounds end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import http2
from tests.support.e2e import Cli, bash, scripted
from tests.support.listeners import Upstream
from tests.support.operators import Operator, beside

pytestmark = pytest.mark.needs("envoy", "claude")

HOST = "asked.example.org"
GET = f"curl -s -m 20 -o /dev/null -w 'got %{{http_code}}.' https://{HOST}/manual; true"


def asking(path: str) -> dict[str, Any]:
    wanted = {"host": HOST, "methods": ["GET"], "paths": [path], "justification": "The manual is there."}
    return {"tools": [{"name": "mcp__claude-bottle__egress-block", "input": wanted}]}


def test_an_agent_is_denied_asks_gets_it_for_once_and_is_denied_again(cli: Cli, tmp_path: Path) -> None:
    with (
        Upstream() as server,
        scripted(
            {**bash(GET), "system": {"contains": "You work in a bottle"}},
            {"expect": [{"contains": "got 000."}], **asking("/")},
            {"expect": [{"contains": [HOST, "1 use", "paths: /manual instead of /"]}], **bash(GET)},
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
            ident = Operator(cli).pending()
            talks.append(cli("proposals", "show", ident).ok().text)
            edits = {"VISUAL": "", "EDITOR": f"cp {made}"}
            talks.append(cli("proposals", "modify", ident, "--once", "--yes", env=edits).ok().talk)

        with beside(operate):
            done = cli("run", cli.agent, "-p", "Read the manual.", "--yes", "--wait-for-operator")
        assert [request.line for request in server.requests] == ["GET /manual HTTP/1.1"]
    assert (model.failures, model.finished) == ((), True), done.everything
    done.ok()
    page, said = talks
    assert "| The manual is there." in page
    assert f"deny  {HOST}:443" in page  # what it tried
    assert "1 use left" in said
    kinds = [row[1] for row in cli("audit", "show", "--agent", cli.agent).ok().rows]
    assert kinds == ["start", "proposal", "decision", "outcome", "stop", "denials"]
    cli("audit", "verify").ok()
    cli.assert_nothing_is_left()


# One connection: a request by the grant, and beside it one by the manifest that never ends.
SIDE_BY_SIDE = f"""
import socket, ssl, sys
raw = socket.create_connection(("127.0.0.1", 9099), int(sys.argv[1]))
raw.sendall(b"CONNECT {HOST}:443 HTTP/1.1\\r\\n\\r\\n")
head = raw.recv(1)
while head and not head.endswith(b"\\r\\n\\r\\n"):
    head += raw.recv(1)
context = ssl.create_default_context()
context.set_alpn_protocols(["h2"])
with context.wrap_socket(raw, server_hostname="{HOST}") as tls, tls.makefile("rb") as reader:
    print(tls.selected_alpn_protocol())
    tls.sendall(bytes.fromhex("{(http2.opening() + http2.get(HOST, "/manual", 1)).hex()}"))
    try:
        while frame := reader.read(9):
            stream, data = frame[8], reader.read(int.from_bytes(frame[:3], "big"))
            if frame[3] == {http2.DATA} and data:
                print(stream, data.decode().strip())
            if stream == 1 and frame[4] & {http2.END_STREAM} and frame[3] in ({http2.DATA}, {http2.HEADERS}):
                tls.sendall(bytes.fromhex("{http2.get(HOST, "/front/slow", 3).hex()}"))
    except TimeoutError:
        raise
    except OSError:
        pass
    print("closed")
"""
HOLD = f"""
cat > /tmp/two.py <<'END'
{SIDE_BY_SIDE}
END
curl -sN -m $limit https://{HOST}/front/slow > /tmp/front &
front=$!
python3 /tmp/two.py $limit > /tmp/two 2>&1 &
two=$!
curl -sN -m $limit https://{HOST}/manual/slow > /tmp/grant
[ $? != 28 ] && echo "one: $(cat /tmp/grant), closed"
wait $two
echo two: $(cat /tmp/two)
kill -0 $front && echo "front: $(cat /tmp/front), open"
kill $front
curl -s -m 20 -o /dev/null -w 'last: %{{http_code}}' https://{HOST}/manual
"""
CARRIED = ["/front/slow", "/front/slow", "/manual", "/manual/slow"]


def test_a_grant_ends_by_the_clock_with_every_connection_that_it_carried(cli: Cli) -> None:
    # On a machine that does not get as far in so little time once more, with more of it.
    assert ends_by_the_clock(cli, 5) or ends_by_the_clock(cli, 40)


def ends_by_the_clock(cli: Cli, seconds: int) -> bool:
    """False where the grant was over before all was under way that it is to end."""
    hold = f"limit={seconds + 20}\n{HOLD}"
    with (
        Upstream() as server,
        scripted(
            bash(f"curl -s -m 20 https://{HOST}/manual"),
            {"expect": [{"contains": ["path-not-allowed", "egress-block"]}], **asking("/manual")},
            {"expect": [{"contains": ["Approved", HOST, "until"]}], **bash(hold)},
            {
                "expect": [
                    {
                        "contains": [
                            "one: begun, closed",
                            "two: h2 1 ok 3 begun closed",
                            "front: begun, open",
                            "last: 403",
                        ]
                    }
                ],
                "say": "Done.",
            },
        ) as model,
    ):
        own = f"  - {{host: {HOST}, upstream: '{server.url}', methods: [GET], paths: [/front]}}\n"
        cli.manifest(model.url, bottle=own)

        def operate() -> None:
            ident = Operator(cli).pending()
            assert f"requests go to {server.url}" in cli("proposals", "show", ident).ok().text
            cli("proposals", "approve", ident, "--for", f"{seconds}s").ok()

        with beside(operate):
            done = cli("run", cli.agent, "-p", "Read the manual.", "--yes", "--wait-for-operator")
        if sorted(request.line.split()[1] for request in server.requests) != CARRIED:
            return False
    assert (model.failures, model.finished) == ((), True), done.everything
    done.ok()
    cli.assert_nothing_is_left()
    return True
