"""A change of a running bottle's policy, from when it is said to the first byte that it allows.

The baseline is the same byte from a host that was allowed all the time: CONNECT, TLS, a request, an answer.
Both are answered by Envoy itself, on the path that the probe uses, so no server has a part in it. Signing the
certificate is the caller's, and not measured.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from bench.children import UnmeasuredError
from bench.figures import Figure, compared, in_turn
from bench.lab import Lab
from bench.rig import Rig, rig
from bench.routes import INSPECTED
from claude_bottle.policy.live import LivePolicy, LiveRoute, live_to_json
from claude_bottle.policy.model import Route
from claude_bottle.sidecars.control_client import ask, within
from claude_bottle.sidecars.egress.certs import CertAndKey, make_leaf
from claude_bottle.sidecars.egress.envoy import PROBE_PATH

_SECONDS = 10.0


def change(_: Lab) -> Iterator[Figure]:
    """A new inspected host, against one that was there before."""
    with rig() as own:  # of its opaque rules no change could be made: no manifest can have them
        yield compared("policy.change", "ms", in_turn(*_two_ways(own), rounds=20, seconds=8))


def _two_ways(rig: Rig) -> tuple[Callable[[], float], Callable[[], float]]:
    numbers, allowed = count(2), [LiveRoute(Route(INSPECTED))]
    authority = said(rig, op="authority")
    signer = CertAndKey(authority["cert"], authority["key"])
    context = ssl.create_default_context(cadata=signer.cert_pem)

    def added() -> float:
        number = next(numbers)
        host = f"n{number}.example.org"
        allowed.append(LiveRoute(Route(host), grant="bench"))
        request = {
            "op": "change",
            "expect": number - 1,
            "live": live_to_json(LivePolicy(tuple(allowed), number)),
            "leaves": {host: list(make_leaf(signer, host))},
            "decision": f"bench-{number}",
        }
        began = time.perf_counter()
        said(rig, **request)
        first_byte(rig.gate, host, context)
        return (time.perf_counter() - began) * 1000

    def known() -> float:
        began = time.perf_counter()
        first_byte(rig.gate, INSPECTED, context)
        return (time.perf_counter() - began) * 1000

    return added, known


def said(rig: Rig, **request: object) -> dict[str, Any]:
    """Raises UnmeasuredError where the bundle says no."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(rig.control)
        answer = ask(request, sock.sendall, within(sock, _SECONDS))
    if not answer["ok"]:
        raise UnmeasuredError(f"the bundle says {answer['error']}: {answer['detail']}")
    return answer


def first_byte(gate: int, host: str, context: ssl.SSLContext) -> None:
    """Raises UnmeasuredError where it is not the one that was allowed."""
    with socket.create_connection(("127.0.0.1", gate), _SECONDS) as sock:
        sock.sendall(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
            raise UnmeasuredError(f"the gate refuses {host}")
        with context.wrap_socket(sock, server_hostname=host) as stream:
            stream.sendall(f"GET {PROBE_PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            if not stream.recv(4096).startswith(b"HTTP/1.1 204"):
                raise UnmeasuredError(f"Envoy does not serve {host}")
