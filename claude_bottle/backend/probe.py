"""The questions that are asked from inside a bottle before it is handed over. Standard library only.

Invariant: a check that cannot run has failed. No check sends anything beyond the bottle: the addresses are
those that RFC 5737 and RFC 3849 keep for documentation, and the names end in `.invalid` (RFC 2606). Runs as
the bottle's own user with the bottle's own limits; it is told no secret, only salted hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any

_SECONDS = 5.0
_OUTSIDE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_RESOLVERS = ("127.0.0.1", "127.0.0.11", "127.0.0.53", "192.0.2.1")
# Names are given as bytes: as text Python would load its IDNA tables, which are not there inside.
_QUERY = bytes.fromhex("1234010000010000000000000570726f626507696e76616c69640000010001")
DENIED_HOST = "denied.claude-bottle.invalid"
PROBE_PATH = "/.claude-bottle/probe"

Questions = dict[str, Any]


class Failed(Exception):
    """A check did not find what it must."""


def run_probe(questions: Questions) -> list[dict[str, object]]:
    """One answer for each check, in order: {"check", "ok", "detail"}."""
    checks: list[tuple[str, Callable[[Questions], str]]] = [
        ("no direct connection", _no_direct_connection),
        ("no name resolution", _no_resolver),
        ("denied host refused", _denied_host),
        ("host's home not visible", _no_host_home),
        ("environment without secrets", _no_secrets),
        ("no privileges", _no_privileges),
    ]
    if questions["allowed"] is not None:
        checks.append(("allowed host reached", _allowed_host))
    return [_answer(name, check, questions) for name, check in checks]


def _answer(name: str, check: Callable[[Questions], str], questions: Questions) -> dict[str, object]:
    try:
        return {"check": name, "ok": True, "detail": check(questions)}
    except Failed as error:
        return {"check": name, "ok": False, "detail": str(error)}
    except Exception as error:  # noqa: BLE001 - a check that cannot run has failed
        return {
            "check": name,
            "ok": False,
            "detail": f"could not be checked: {type(error).__name__}: {error}",
        }


def _no_direct_connection(_: Questions) -> str:
    for family, address in _OUTSIDE:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(1.0)
            try:
                sock.connect((address, 443))
            except TimeoutError as error:
                raise Failed(f"a packet to {address} was sent somewhere") from error
            except OSError:
                continue
            raise Failed(f"{address} was reached")
    interfaces = [line.split(":")[0].strip() for line in _read("/proc/net/dev").splitlines()[2:]]
    if interfaces != ["lo"]:
        raise Failed(f"there are network interfaces: {', '.join(interfaces)}")
    return "no interface but lo"


def _no_resolver(_: Questions) -> str:
    for resolver in _RESOLVERS:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.settimeout(0.2)
                try:
                    sock.connect((resolver, 53))
                    sock.send(_QUERY)
                    if sock.recv(512):
                        raise Failed(f"a resolver answers at {resolver}")
                except OSError:
                    continue
    return "nothing answers on port 53"


def _denied_host(questions: Questions) -> str:
    status = _connect(questions, DENIED_HOST, 443)[0]
    if status != 403:
        raise Failed(f"the gate answered {status} instead of 403")
    return "403"


def _allowed_host(questions: Questions) -> str:
    import ssl  # loaded by the keeper long before; the one who only asks the questions does without

    host, port = questions["allowed"]["host"], questions["allowed"]["port"]
    status, sock = _connect(questions, host, port)
    with sock:
        if status != 200:
            raise Failed(f"the gate answered {status} for {host}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=questions["authority"])
        with context.wrap_socket(sock, server_hostname=host.encode()) as tls:
            tls.sendall(f"GET {PROBE_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            line = tls.recv(4096).split(b"\r\n")[0]
    if not line.startswith(b"HTTP/1.1 204"):
        raise Failed(f"{host} answered {line[:60]!r}")
    return f"{host} through the gate, with the bottle's own certificate"


def _connect(questions: Questions, host: str, port: int) -> tuple[int, socket.socket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the request waits for the gate's ACK
    sock.connect(tuple(questions["gate"]))
    sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 16384:
        part = sock.recv(4096)
        if not part:
            break
        head += part
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[1].isdigit():
        raise Failed("the gate gave no HTTP answer")
    return int(words[1]), sock


def _no_host_home(questions: Questions) -> str:
    home = questions["home"]
    try:
        found = os.stat(home["path"])
    except (FileNotFoundError, PermissionError):
        return f"{home['path']} does not exist"
    if (found.st_dev, found.st_ino) == (home["device"], home["inode"]):
        raise Failed(f"{home['path']} is the host's")
    return f"{home['path']} is not the host's"


def _no_secrets(questions: Questions) -> str:
    salt, known = questions["salt"], set(questions["secrets"])
    seen = 0
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            content = _read(f"/proc/{pid}/environ")
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue  # not readable inside is what is wanted
        for entry in content.split("\0"):
            value = entry.partition("=")[2]
            if value and salted(salt, value) in known:
                raise Failed(f"process {pid} has a secret in {entry.partition('=')[0]}")
            seen += 1
    if not seen:
        raise Failed("no environment could be read")
    return f"{len(known)} secrets, none found"


def _no_privileges(_: Questions) -> str:
    status = dict(line.split(":", 1) for line in _read("/proc/self/status").splitlines() if ":" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(status[name], 16) != 0:
            raise Failed(f"{name} is not empty")
    if status["NoNewPrivs"].strip() != "1" or status["Seccomp"].strip() != "2":
        raise Failed("new privileges are possible, or there is no system call filter")
    if os.getuid() == 0:
        raise Failed("programs run as root")
    return "no capabilities, filter on"


def salted(salt: str, value: str) -> str:
    return hashlib.sha256(f"{salt}{value}".encode(errors="surrogateescape")).hexdigest()


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode(errors="surrogateescape")


def answers_as_json(questions: Questions) -> str:
    return json.dumps(run_probe(questions))


def start(_: list[str]) -> None:
    """The questions come on standard input, the answers go to standard output, both as JSON."""
    import sys

    sys.stdout.write(answers_as_json(json.load(sys.stdin)))
