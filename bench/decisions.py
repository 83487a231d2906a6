"""A line of the audit log; and an approval, from its decision to the first byte that it allows."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from bench.children import UnmeasuredError, ended, ended_after, stream_of
from bench.figures import Figure, compared, in_turn
from bench.lab import Lab
from claude_bottle.state.paths import Home

if TYPE_CHECKING:
    from claude_bottle.backend.base import Bottle
    from claude_bottle.operations.context import Context

_LINE = {"proposal": "p-0123456789", "answer": "approved", "asked": {"route": {"host": "example.org"}}}
# Inside: asks until it is allowed; says when that answer began to come, and how long it took.
_WAIT = """
import socket, ssl, sys, time
host, context = sys.argv[1], ssl.create_default_context()
print("ready", flush=True)
while True:
    began = time.time()
    with socket.create_connection(("127.0.0.1", 9099), 10) as sock:
        sock.sendall(f"CONNECT {host}:443 HTTP/1.1\\r\\nHost: {host}:443\\r\\n\\r\\n".encode())
        if b" 200 " not in sock.recv(4096).partition(b"\\r\\n")[0]:
            continue
        with context.wrap_socket(sock, server_hostname=host) as safe:
            safe.sendall(f"GET / HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
            if b" 200 " in safe.recv(4096).partition(b"\\r\\n")[0]:
                print(time.time(), time.time() - began, flush=True)
                break
"""


def append(lab: Lab) -> Iterator[Figure]:
    """One line, on the disk, chained; against writing and syncing the same bytes to a file."""
    from claude_bottle.state import audit

    with tempfile.TemporaryDirectory(prefix="claude-bottle-bench-") as folder:
        home = Home(Path(folder))

        def line() -> float:
            began = time.perf_counter()
            audit.append(home, "decision", slug="bench-00000", agent="bench", data=_LINE)
            return (time.perf_counter() - began) * 1000

        def bare() -> float:
            began = time.perf_counter()
            descriptor = os.open(home.root / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(descriptor, b"x" * 500)
            os.fsync(descriptor)
            os.close(descriptor)
            return (time.perf_counter() - began) * 1000

        pairs = in_turn(line, bare, rounds=100, seconds=8)
    yield compared("audit.append", "ms", pairs)


def effect(lab: Lab) -> Iterator[Figure]:
    """From an approval's line in the log to the first byte from a new inspected host, as the agent sees it.

    Against the same request when the host is allowed.
    """
    from bench.bottles import context_of
    from claude_bottle.operations.deciding import running

    with lab.operator.running() as slug, _server() as url:
        context = context_of(lab.operator)
        bottle, _ = running(context, slug)
        hosts = iter(f"h{number}.example.org" for number in range(1000))
        known = ""

        def approved() -> float:
            nonlocal known
            known = next(hosts)
            return _approved(context, bottle, known, url)

        pairs = in_turn(approved, lambda: _asked(bottle, known)[1], rounds=12, seconds=25)
    yield compared("approve.effect", "ms", pairs)


def _approved(context: Context, bottle: Bottle, host: str, url: str) -> float:
    from claude_bottle.operations import edits
    from claude_bottle.operations.deciding import EDIT, Change, Seen, carry_out
    from claude_bottle.policy.model import Route
    from claude_bottle.policy.rules import parse_upstream

    route, moments = Route(host, methods=("GET",), upstream=parse_upstream(url)), dict[str, float]()

    def plan(seen: Seen, word: str) -> Change:
        return Change(edits.adding([route], "routes", None, None)(seen, word), {})

    def decide() -> None:
        carry_out(context, bottle.slug, EDIT, plan, step=lambda name: moments.update({name: time.time()}))

    first, _ = _asked(bottle, host, decide)
    return (first - moments["audited"]) * 1000


def _asked(bottle: Bottle, host: str, when_ready: Callable[[], None] = lambda: None) -> tuple[float, float]:
    """When the first byte came, and the milliseconds of that request."""
    argv = bottle.command(["/usr/bin/python3", "-c", _WAIT, host], tty=False)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    with ended_after(process):
        if stream_of(process.stdout).readline() != b"ready\n":
            raise UnmeasuredError("nothing runs in the bottle")
        when_ready()
        words = stream_of(process.stdout).readline().split()
        if len(words) != 2 or ended(process, argv) != 0:
            raise UnmeasuredError(f"{host} was never reached")
    return float(words[0]), float(words[1]) * 1000


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's own name
        """Quiet."""


@contextmanager
def _server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
