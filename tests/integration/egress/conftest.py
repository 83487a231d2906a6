"""A real Envoy with the real authorization server, between a test that plays the gate and a server that
plays the internet: `envoy` is the fixture. Everything is on unix sockets in one temporary folder."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.policy.routes import decide_request
from claude_bottle.sidecars.egress.authz import AuthzServer, Judge
from claude_bottle.sidecars.egress.certs import make_ca, make_leaf, make_leaves
from claude_bottle.sidecars.egress.envoy import envoy_clusters, envoy_listeners, envoy_ways
from claude_bottle.sidecars.egress.envoy_start import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    envoy_argv,
    envoy_bootstrap,
)
from claude_bottle.sidecars.egress.outlets import inspected_chains, inspected_outlets

SECRET = "the-real-secret"
PATIENCE = 20.0  # how long anything may take before a test fails; nothing waits this long when it works


def _auth(scheme: str) -> Auth:
    return Auth(scheme, SecretRef("env", ("UNUSED",)))


POLICY = Policy(
    (
        Route(
            "key.example.org", methods=("GET", "POST", "HEAD"), paths=("/v1",), auth=_auth("header:X-Api-Key")
        ),
        Route("bearer.example.org", auth=_auth("bearer")),
        Route("open.example.org", ports=(443, 8443)),
        Route("public.example.org", paths=("/public",)),
        Route("*.wild.example.org", auth=_auth("bearer")),
        Route("local.example.org", auth=_auth("bearer"), upstream=Upstream("http", "127.0.0.1", 8080)),
        Route("gateway.example.org", upstream=Upstream("https", "gw.internal.example", 8443)),
        Route("impostor.example.org", auth=_auth("bearer")),
        Route("tunnel.example.org", inspect=False),
    ),
    version=7,
)
# What the server behind each outlet calls itself, where that is not the name of the rule.
CERTIFICATES = {"gateway.example.org": "gw.internal.example", "impostor.example.org": "open.example.org"}


@dataclass
class Received:
    """One request as it came out of Envoy."""

    outlet: str
    sni: str | None
    head: bytes
    body: bytes = b""

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        return self.request_line.split(" ")[1]

    @property
    def headers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            found.setdefault(name.lower(), []).append(value.strip())
        return found


@dataclass
class Internet:
    """Serves every outlet. Answers 200, an event stream below /v1/sse, a WebSocket below /v1/ws."""

    requests: list[Received] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)  # the outlet of each connection
    bytes_seen: dict[str, int] = field(default_factory=dict)  # decrypted, by outlet
    next_event: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def serve(self, outlet: str, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            threading.Thread(target=self._connection, args=(outlet, sock, tls), daemon=True).start()

    def _connection(self, outlet: str, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        self.connections.append(outlet)
        try:
            stream: Any = tls.wrap_socket(sock, server_side=True) if tls else sock
            with stream, stream.makefile("rb") as reader:
                while self._exchange(outlet, stream, reader):
                    pass
        except OSError:
            pass  # a client that hangs up; what matters is in `requests`

    def _exchange(self, outlet: str, stream: Any, reader: Any) -> bool:
        lines = []
        while (line := reader.readline()) not in (b"\r\n", b""):
            lines.append(line)
            self.bytes_seen[outlet] = self.bytes_seen.get(outlet, 0) + len(line)
        if not lines:
            return False
        request = Received(outlet, getattr(stream, "sni", None), b"".join(lines).rstrip(b"\r\n"))
        self.requests.append(request)
        request.body = _read_body(reader, request.headers)
        if request.path.startswith("/v1/sse"):
            self._event_stream(stream)
            return False
        if request.path.startswith("/v1/ws"):
            stream.sendall(b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            stream.sendall(b"echo:" + reader.read(4))
            return False
        answer = json.dumps({"path": request.path, "length": len(request.body)}).encode()
        body = b"" if request.request_line.startswith("HEAD ") else answer
        stream.sendall(
            b"HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-length: %d\r\n\r\n" % len(answer) + body
        )
        return True

    def _event_stream(self, stream: Any) -> None:
        stream.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            if not self.next_event.acquire(timeout=PATIENCE):
                return
            event = b"data: %d\n\n" % number
            stream.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        stream.sendall(b"0\r\n\r\n")


def _read_body(reader: Any, headers: dict[str, list[str]]) -> bytes:
    if headers.get("transfer-encoding") == ["chunked"]:
        body = b""
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
        return body
    return bytes(reader.read(int(headers.get("content-length", ["0"])[0])))


class Authz:
    """The real authorization server on a thread of its own."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events: list[dict[str, object]] = []
        self.fail_record = False
        self.fail_credential = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.judge = Judge(
            decide=partial(decide_request, POLICY),
            credential_for=self._credential_for,
            record=self._record,
            chains=inspected_chains(POLICY),
            version=POLICY.version,
        )
        self.server = AuthzServer(self.judge)
        self.open()

    def open(self) -> None:
        coroutine = self.server.serve(listen_unix(self.path))
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def close(self) -> None:
        """Ends the listener and every connection, as a crash would."""
        self._loop.call_soon_threadsafe(self.server.close)
        wait_until(lambda: not listens(Path(self.path)), "the authorization server to close")
        Path(self.path).unlink()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _record(self, event: dict[str, object]) -> None:
        if self.fail_record:
            raise OSError("the disk is full")
        self.events.append(event)

    def _credential_for(self, route: Route) -> tuple[tuple[str, str], ...]:
        if self.fail_credential:
            raise RuntimeError(SECRET)
        assert route.auth is not None
        if route.auth.scheme == "bearer":
            return (("Authorization", f"Bearer {SECRET}"),)
        return ((route.auth.scheme.partition(":")[2], SECRET),)


@dataclass
class EnvoyRig:
    """Envoy, and what a test needs to talk to it and to see what it did."""

    folder: Path
    internet: Internet
    authz: Authz
    bottle_ca: str
    process: subprocess.Popen[bytes]

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.folder / "envoy.sock"))
        return sock

    def tls(self, sni: str | None, alpn: str = "http/1.1", check_name: bool = True) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=self.bottle_ca)
        context.set_alpn_protocols([alpn])
        if not check_name:
            context.check_hostname = False
        return context.wrap_socket(self.connect(), server_hostname=sni)

    def send(self, sni: str, raw: bytes, method: str = "GET") -> Reply:
        """Sends these very bytes over TLS and reads one response; status 0 if there is none."""
        with self.tls(sni) as sock:
            sock.sendall(raw)
            return read_reply(sock, method)

    def get(self, host: str, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> Reply:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
        return self.send(host.partition(":")[0], raw, method)

    def access_log(self, **fields: object) -> dict[str, object]:
        """The first line of the access log in which these fields have these values."""
        found: list[dict[str, object]] = []

        def look() -> bool:
            for line in (self.folder / "envoy-access.log").read_text().splitlines():
                entry = json.loads(line)
                if all(entry[name] == value for name, value in fields.items()):
                    found.append(entry)
            return bool(found)

        wait_until(look, f"a line in the access log with {fields}")
        return found[0]

    def read_reply(self, sock: socket.socket, method: str = "GET") -> Reply:
        return read_reply(sock, method)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what)

    def clear(self) -> None:
        self.internet.requests.clear()
        self.internet.connections.clear()
        self.authz.events.clear()
        self.authz.fail_record = self.authz.fail_credential = False


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        error = json.loads(self.body)["error"]
        assert error["type"] == "claude-bottle-denied"
        assert self.headers["content-type"] == "application/json"
        return str(error["reason"])


def read_reply(sock: socket.socket, method: str = "GET") -> Reply:
    response = http.client.HTTPResponse(sock, method=method)
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ConnectionError, ssl.SSLError):
        return Reply(0, {}, b"")
    finally:
        response.close()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _server_context(folder: Path, name: str, certificate: Any) -> ssl.SSLContext:
    pem = folder / f"{name}.pem"
    pem.write_text(certificate.cert_pem + certificate.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = lambda stream, sni, _: setattr(stream, "sni", sni)
    return context


def _start_internet(folder: Path) -> tuple[Internet, str, list[socket.socket]]:
    """Serves every outlet of the policy; also the file with the authority that signs there."""
    ca = make_ca("the internet")
    bundle = folder / "internet-ca.pem"
    bundle.write_text(ca.cert_pem)
    internet, listeners = Internet(), []
    for outlet in inspected_outlets(POLICY):
        target = outlet.target
        tls = None
        if target.upstream is None or target.upstream.scheme == "https":
            leaf = make_leaf(ca, CERTIFICATES.get(target.host, target.host))
            tls = _server_context(folder, outlet.name, leaf)
        listener = listen_unix(str(folder / outlet.socket))
        listeners.append(listener)
        name = f"{target.host}:{target.port}"
        threading.Thread(target=internet.serve, args=(name, listener, tls), daemon=True).start()
    return internet, str(bundle), listeners


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.fixture(scope="session")
def running_envoy(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyRig]:
    folder = tmp_path_factory.mktemp("envoy")
    internet, bundle, listeners = _start_internet(folder)
    ca = make_ca("bottle")
    ways = envoy_ways(POLICY, make_leaves(ca, [chain.host for chain in inspected_chains(POLICY)]))
    (folder / "envoy.json").write_text(json.dumps(envoy_bootstrap()))
    (folder / CLUSTERS_FILE).write_text(json.dumps(envoy_clusters(ways, bundle)))
    (folder / LISTENERS_FILE).write_text(json.dumps(envoy_listeners(ways)))
    authz = Authz(str(folder / "authz.sock"))
    with (folder / "envoy.err").open("wb") as errors:
        argv = envoy_argv(str(envoy_binary), "envoy.json")
        process = subprocess.Popen(argv, cwd=folder, stdout=errors, stderr=errors, env=dict(os.environ))
    try:
        wait_until(lambda: process.poll() is not None or listens(folder / "envoy.sock"), "Envoy to listen")
        assert process.poll() is None, (folder / "envoy.err").read_text()
        yield EnvoyRig(folder, internet, authz, ca.cert_pem, process)
        assert process.poll() is None, (folder / "envoy.err").read_text()
    finally:
        process.kill()
        process.wait()
        authz.close()
        authz.end()
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@pytest.fixture
def envoy(running_envoy: EnvoyRig) -> Iterator[EnvoyRig]:
    running_envoy.clear()
    yield running_envoy
    running_envoy.clear()
