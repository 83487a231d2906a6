"""The real gate and the real dialler on one loop in a thread, between a test that plays the agent and servers
that play the internet and Envoy: `rig` is the fixture. What is replaced is the world outside: the resolver's
answers, and where a public address leads to (loopback). Both are recorded."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest

from claude_bottle.policy.model import Policy, Route, Upstream
from claude_bottle.policy.routes import decide_connect
from claude_bottle.sidecars.egress.certs import make_ca, make_leaf
from claude_bottle.sidecars.egress.gate import Gate, Limits, unix_stage
from claude_bottle.sidecars.pipelock.dialler import Dialler, DialLimits, connect_address
from claude_bottle.sidecars.pipelock.protocol import Target
from claude_bottle.sidecars.sockets import listen_unix

PATIENCE = 20.0  # how long anything may take before a test fails; nothing waits this long when it works
TLS_ADDRESS = "93.184.216.34"  # a public address where a TLS server echoes
RAW_ADDRESS = "93.184.216.35"  # one where the test itself is the server
DEAD_ADDRESS = "93.184.216.36"  # one where nothing listens

T = TypeVar("T")

ROUTES = (
    Route("echo.example.org", inspect=False, origin="bottle.md:7"),
    Route("raw.example.org", inspect=False),
    Route("odd.example.org", inspect=False),
    Route("*.wild.example.org", inspect=False),
    Route("seen.example.org", (443, 8443), origin="bottle.md:9"),
    Route("*.seen.example.org"),
    Route("own.example.org", upstream=Upstream("http", "127.0.0.1", 1)),
    Route(TLS_ADDRESS, inspect=False),
    Route("127.0.0.1", inspect=False),
    Route("93.184.216.99"),
)


class World:
    """What the resolver says, where addresses lead to, and what was asked of both."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {}  # by host: one answer after the other
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.ports: dict[str, int] = {}
        self.reachable = asyncio.Event()
        self.reachable.set()

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self.answers.get(host, [[TLS_ADDRESS]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(self, address: IPv4Address | IPv6Address, port: int) -> socket.socket:
        self.dialled.append((str(address), port))
        await self.reachable.wait()
        return await connect_address(ip_address("127.0.0.1"), self.ports.get(str(address), port))


class EchoServer:
    """Ends TLS and sends back what it gets. Counts connections, and those that sent anything.

    In Envoy's place it is first told the name of each connection.
    """

    def __init__(self, listener: socket.socket, context: ssl.SSLContext, *, named: bool = False) -> None:
        self.named = named
        self.names: list[str] = []
        self.listener = listener
        self.context = context
        self.connections = 0
        self.spoken_to = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                if self.named:
                    self.names.append(_line_of(sock))
                if not sock.recv(1, socket.MSG_PEEK):
                    return
                self.spoken_to += 1
                with self.context.wrap_socket(sock, server_side=True) as stream:
                    while data := stream.recv(65536):
                        stream.sendall(data)
            except OSError:
                pass  # a client that hangs up; the test sees its own end

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def _line_of(sock: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\r\n"):
        line += sock.recv(1) or b"\r\n"
    return line.decode()


@dataclass
class Reply:
    status: int
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.body)["error"])


@dataclass
class Rig:
    folder: Path
    ca: str
    world: World
    echo: EchoServer
    envoy: EchoServer
    raw: socket.socket
    loop: asyncio.AbstractEventLoop
    gate_port: int = 0
    events: list[Mapping[str, object]] = field(default_factory=list)
    crashes: list[object] = field(default_factory=list)
    fail_record: Callable[[Mapping[str, object]], bool] = lambda event: False
    gate: Gate = field(init=False)
    dialler: Dialler = field(init=False)

    # The parts, on their loop.

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    async def start(self, limits: Limits, dial_limits: DialLimits) -> None:
        self.loop.set_exception_handler(lambda _, context: self.crashes.append(context.get("exception")))
        decide = partial(decide_connect, Policy(ROUTES))
        self.dialler = Dialler(
            decide=decide,
            version=1,
            record=self.record,
            resolve=self.world.resolve,
            connect=self.world.connect,
            limits=dial_limits,
        )
        self.gate = Gate(
            decide=decide,
            version=1,
            record=self.record,
            inspected=unix_stage(str(self.folder / "envoy.sock")),
            opaque=self.dialler.open,
            limits=limits,
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.gate_port = listener.getsockname()[1]
        self.gate.serve(listener)

    async def stop(self) -> None:
        await self.gate.close()
        await self.dialler.close()

    def serve_target(self, target: Target) -> str:
        """One of Envoy's upstream sockets; the answer is its path."""
        path = str(self.folder / "up-0.sock")

        async def serve() -> None:
            self.dialler.serve(listen_unix(path), target)

        self.run(serve())
        return path

    def set_policy(self, routes: Sequence[Route], version: int) -> int:
        async def swap() -> int:
            decide = partial(decide_connect, Policy(tuple(routes), version))
            return self.dialler.set_policy(decide, version) + self.gate.set_policy(decide, version)

        return self.run(swap())

    def record(self, event: Mapping[str, object]) -> None:
        if self.fail_record(event):
            raise OSError("the disk is full")
        self.events.append(event)

    def lines(self, **fields: object) -> list[Mapping[str, object]]:
        return [
            event
            for event in list(self.events)
            if all(event.get(key) == value for key, value in fields.items())
        ]

    def line(self, **fields: object) -> Mapping[str, object]:
        """The one line with these values, once it is there."""
        self.wait_until(lambda: bool(self.lines(**fields)), f"a line with {fields} in {self.events}")
        (line,) = self.lines(**fields)
        return line

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        done = threading.Event()
        for _ in range(int(PATIENCE / 0.005)):
            if condition():
                return
            done.wait(0.005)
        pytest.fail(f"waited in vain for {what}")

    # The agent's side.

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.gate_port), timeout=PATIENCE)

    def connect_unix(self, path: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(path)
        return sock

    def head(self, target: str, *lines: str) -> bytes:
        return "\r\n".join((f"CONNECT {target} HTTP/1.1", *lines, "", "")).encode()

    def ask(self, sock: socket.socket, head: bytes) -> Reply:
        sock.sendall(head)
        return self.read_reply(sock)

    def read_reply(self, sock: socket.socket) -> Reply:
        """The status and, for a refusal, all that follows until the gate hangs up."""
        top = b""
        while b"\r\n\r\n" not in top:
            data = sock.recv(1)  # byte by byte: what follows a 200 is TLS and not ours
            if not data:
                return Reply(0, top)
            top += data
        status = int(top.split(b" ", 2)[1])
        return Reply(status, b"" if status == 200 else self.read_all(sock))

    def refused(self, head: bytes) -> Reply:
        with self.connect() as sock:
            return self.ask(sock, head)

    def tunnel(self, target: str) -> socket.socket:
        sock = self.connect()
        reply = self.ask(sock, self.head(target))
        assert reply.status == 200, reply
        return sock

    def tls(self, target: str, sni: str | None, sock: socket.socket | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=self.ca)
        if sni is None:
            context.check_hostname = False
        return context.wrap_socket(sock or self.tunnel(target), server_hostname=sni)

    def echoes(self, stream: ssl.SSLSocket, data: bytes = b"ping") -> bool:
        """In pieces, one after the other: a TLS socket does not read and write at once."""
        for at in range(0, len(data), 16384):
            piece, back = data[at : at + 16384], b""
            stream.sendall(piece)
            while len(back) < len(piece) and (more := stream.recv(16384)):
                back += more
            if back != piece:
                return False
        return True

    def read_all(self, sock: socket.socket) -> bytes:
        """All bytes until the other side hangs up, in whichever way."""
        found = b""
        try:
            while data := sock.recv(65536):
                found += data
        except ConnectionError:
            pass
        return found

    def hello(self, sni: str | None, *, encrypted: bool = False) -> bytes:
        """A real first flight; with `encrypted`, one more extension that offers another name."""
        outgoing = ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname = False
        stream = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=sni)
        with pytest.raises(ssl.SSLWantReadError):
            stream.do_handshake()
        body = outgoing.read()[9:]
        if encrypted:
            at = 34 + 1 + body[34]
            at += 2 + int.from_bytes(body[at : at + 2], "big")
            at += 1 + body[at]
            block = body[at + 2 :] + b"\xfe\x0d\0\x04test"
            body = body[:at] + len(block).to_bytes(2, "big") + block
        message = b"\x01" + len(body).to_bytes(3, "big") + body
        return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message

    def accept_raw(self) -> socket.socket:
        peer, _ = self.raw.accept()
        peer.settimeout(PATIENCE)
        return peer


@pytest.fixture(scope="session")
def internet_ca(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """The authority to trust, and a server that answers to every name in these tests."""
    ca = make_ca("the internet")
    folder = tmp_path_factory.mktemp("certificates")
    contexts: dict[str, ssl.SSLContext] = {}
    names = ("echo.example.org", "seen.example.org", "a.wild.example.org", "a.seen.example.org")
    for name in names:
        leaf = make_leaf(ca, name)
        pem = folder / f"{name}.pem"
        pem.write_text(leaf.cert_pem + leaf.key_pem)
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(pem)

    def choose(stream: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        stream.context = contexts.get(name or "", contexts["echo.example.org"])

    contexts["echo.example.org"].sni_callback = choose
    return ca.cert_pem, contexts["echo.example.org"]


@pytest.fixture
def limits() -> Limits:
    """Overridden where a test is about a limit."""
    return Limits(linger_seconds=0.5)


@pytest.fixture
def dial_limits() -> DialLimits:
    return DialLimits()


@pytest.fixture
def rig(
    tmp_path: Path, internet_ca: tuple[str, ssl.SSLContext], limits: Limits, dial_limits: DialLimits
) -> Iterator[Rig]:
    ca, context = internet_ca
    world = World()
    echo = EchoServer(socket.create_server(("127.0.0.1", 0), backlog=128), context)
    envoy = EchoServer(listen_unix(str(tmp_path / "envoy.sock")), context, named=True)
    raw = socket.create_server(("127.0.0.1", 0))
    raw.settimeout(PATIENCE)
    with socket.create_server(("127.0.0.1", 0)) as dead:
        dead_port = dead.getsockname()[1]
    world.ports = {
        TLS_ADDRESS: echo.listener.getsockname()[1],
        RAW_ADDRESS: raw.getsockname()[1],
        DEAD_ADDRESS: dead_port,
    }
    world.answers["raw.example.org"] = [[RAW_ADDRESS]]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    rig = Rig(tmp_path, ca, world, echo, envoy, raw, loop)
    try:
        rig.run(rig.start(limits, dial_limits))
        yield rig
        rig.run(rig.stop())
        assert rig.crashes == []
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()
        for server in (echo, envoy):
            server.close()
        raw.close()
