"""A real bundle with a real Envoy and without a bottle, as a process of its own, and what talks to it.

Its names all resolve to one public address, and whoever dials that comes to a server on loopback.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from claude_bottle.policy.live import UNBOUNDED, Bounds, LivePolicy, LiveRoute, live_from_json, live_to_json
from claude_bottle.policy.model import Policy, Route
from claude_bottle.sidecars.bundle_spec import BundleSpec, spec_from_json, spec_to_json
from claude_bottle.sidecars.control_client import ask, within
from claude_bottle.sidecars.egress.certs import CertAndKey, make_ca, make_leaf, make_leaves
from claude_bottle.sidecars.egress.envoy_start import ENVOY_CONFIG, ENVOY_LOG, envoy_argv
from claude_bottle.sidecars.egress.outlets import inspected_chains

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
SECRET = "sk-only-outside-5521"


class Live:
    """A running bundle, seen from both sides."""

    def __init__(self, folder: Path, ca: CertAndKey, internet: Internet) -> None:
        self.folder = folder
        self.ca = ca
        self.internet = internet
        self.gate = 0
        self.envoy = 0

    def control(self, **request: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.folder / "control"))
            return ask(request, sock.sendall, within(sock, PATIENCE))

    def live(self) -> LivePolicy:
        return live_from_json(self.control(op="look")["live"])

    def change(self, *routes: LiveRoute, decision: str = "", **more: object) -> dict[str, Any]:
        """What is in force becomes these; leaves are made for those that want one."""
        before = self.live()
        after = LivePolicy(routes, before.version + 1)
        hosts = [chain.host for chain in inspected_chains(Policy(tuple(item.route for item in routes)))]
        leaves = {host: list(leaf) for host, leaf in make_leaves(self.ca, hosts).items()}
        return self.control(
            **{
                "op": "change",
                "expect": before.version,
                "live": live_to_json(after),
                "leaves": leaves,
                "decision": decision or f"d-{os.urandom(4).hex()}",
                **more,
            }
        )

    def add(self, *routes: LiveRoute) -> dict[str, Any]:
        said = self.change(*self.live().routes, *routes)
        assert said["ok"], said
        return said

    def remove(self, host: str) -> dict[str, Any]:
        said = self.change(*(item for item in self.live().routes if item.route.host != host))
        assert said["ok"], said
        return said

    def tunnel(self, host: str, port: int = 443) -> socket.socket:
        """Raises Refused with the status of the gate's answer."""
        sock = socket.create_connection(("127.0.0.1", self.gate), timeout=PATIENCE)
        sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(1)
            if not data:
                break
            head += data
        status = int(head.split()[1])
        if status != 200:
            sock.close()
            raise Refused(status)
        return sock

    def session(self, host: str, *, trust: str | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=trust or self.ca.cert_pem)
        sock = self.tunnel(host)
        try:
            return context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def get(self, host: str, path: str = "/", method: str = "GET") -> int:
        """The status: the gate's, Envoy's or the server's."""
        try:
            with self.session(host) as stream:
                return request(stream, host, path, method)
        except Refused as refused:
            return refused.status

    def decisions(self, event: str) -> list[dict[str, Any]]:
        lines = (self.folder / "decisions.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line.get("event") == event]


class Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def request(stream: ssl.SSLSocket, host: str, path: str = "/", method: str = "GET") -> int:
    """One request and its answer, which has no body or one that is read whole."""
    stream.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = stream.recv(4096)
        if not data:
            raise ConnectionResetError("it was closed")
        head += data
    head, _, body = head.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ),
        0,
    )
    while len(body) < length:
        body += stream.recv(4096)
    return int(head.split()[1])


class Stream:
    """An endless answer; what has come of it is counted."""

    def __init__(self, live: Live, host: str, path: str = "/stream") -> None:
        self.socket = live.session(host)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        self.pieces = 0
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        wait_until(lambda: self.pieces > 0, "the stream to begin")

    def _read(self) -> None:
        with suppress(OSError):
            while self.socket.recv(4096):
                self.pieces += 1
        self.ended.set()

    def goes_on(self) -> bool:
        seen = self.pieces
        wait_until(lambda: self.pieces > seen + 2 or self.ended.is_set(), "the stream to go on")
        return not self.ended.is_set()

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Internet:
    """One TLS server for all names, on loopback. `/stream` never ends, all else is answered with 200."""

    def __init__(self, folder: Path) -> None:
        self.ca = make_ca("the internet")
        self._folder = folder
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._default.sni_callback = self._choose
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.seen: list[tuple[str, str, str]] = []  # host, path, credential
        self._over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _choose(self, stream: Any, name: str, _: object) -> None:
        if name not in self._contexts:
            leaf = make_leaf(self.ca, name)
            pem = self._folder / f"{name}.pem"
            pem.write_text(leaf.cert_pem + leaf.key_pem)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self._contexts[name] = context
        stream.context = self._contexts[name]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            stream = self._default.wrap_socket(sock, server_side=True)
            with stream:
                while self._answer(stream):
                    pass

    def _answer(self, stream: ssl.SSLSocket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            data = stream.recv(4096)
            if not data:
                return False
            head += data
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        path = first.split()[1]
        self.seen.append((fields["host"], path, fields.get("authorization", "")))
        if path != "/stream":
            stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            return True
        stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        while not self._over.wait(0.01):
            stream.sendall(b"data: x\n\n")
        return False

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


def granted(host: str, *, uses: int | None = None, until: float | None = None, **route: Any) -> LiveRoute:
    return LiveRoute(Route(host, **route), Bounds(until, uses) if uses or until else UNBOUNDED, "d-0")


@contextmanager
def running(
    folder: Path,
    envoy: Path,
    policy: Policy,
    credentials: Mapping[str, str] | None = None,
    spent_seconds: float = 60.0,
) -> Iterator[Live]:
    """The bundle is told of `policy` alone."""
    ca, internet = make_ca("the bottle"), Internet(folder)
    (folder / "internet.pem").write_text(internet.ca.cert_pem)
    spec = BundleSpec(
        policy,
        make_leaves(ca, [chain.host for chain in inspected_chains(policy)]),
        credentials or {},
        tuple(envoy_argv(str(envoy), ENVOY_CONFIG)),
        None,
        "internet.pem",
        "decisions.jsonl",
        "services",
        authority=ca,
        control="control",
        control_uid=os.geteuid(),
        proposals="proposals.json",
    )
    process = subprocess.Popen(
        [sys.executable, __file__],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            told = {"spec": spec_to_json(spec), "port": internet.port, "spent_seconds": spent_seconds}
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
            live = Live(folder, ca, internet)
            said = json.loads(process.stdout.readline())
            live.gate, live.envoy = said["gate"], said["envoy"]
            yield live
        finally:
            process.stdin.close()
            process.wait(PATIENCE)
            internet.close()


def main() -> None:
    import asyncio
    from functools import partial
    from ipaddress import ip_address

    from claude_bottle.sidecars import in_force, reach
    from claude_bottle.sidecars.bundle import Bundle
    from claude_bottle.sidecars.child import Child, write_for_envoy
    from claude_bottle.sidecars.egress.envoy_start import CLUSTERS_FILE, LISTENERS_FILE, envoy_bootstrap
    from claude_bottle.sidecars.pipelock.dialler import Dialler, connect_address

    told = json.loads(sys.stdin.readline())

    async def resolve(host: str, port: int) -> list[str]:
        return ["1.1.1.1"]

    async def connect(address: object, port: int) -> socket.socket:
        return await connect_address(ip_address("127.0.0.1"), told["port"])

    reach.Dialler = partial(Dialler, resolve=resolve, connect=connect)  # type: ignore[assignment, misc]
    in_force.SPENT_SECONDS = told["spent_seconds"]

    async def live() -> None:
        spec = spec_from_json(told["spec"])
        empty: dict[str, object] = {"resources": []}
        for name, content in (
            (ENVOY_CONFIG, envoy_bootstrap()),
            (CLUSTERS_FILE, empty),
            (LISTENERS_FILE, empty),
        ):
            write_for_envoy(name, content, None)
        envoy = Child(list(spec.envoy), ENVOY_LOG)
        bundle = Bundle(spec, envoy)
        try:
            await bundle.start_behind()
            listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            bundle.open_gate(listener)
            print(json.dumps({"gate": listener.getsockname()[1], "envoy": envoy.pid}), flush=True)
            loop = asyncio.get_running_loop()
            over = loop.create_future()
            loop.add_reader(0, lambda: over.done() or over.set_result(None))
            await asyncio.wait([over, bundle.failed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            bundle.close()

    asyncio.run(live())


if __name__ == "__main__":
    main()
