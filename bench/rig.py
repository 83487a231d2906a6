"""Client, bundle and server, each a process of its own, on loopback: what the traffic benchmarks run on.

The server is reached directly, through an opaque tunnel, or through the interception; the names are of
those that RFC 2606 keeps for examples.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.children import Helper, helper
from bench.routes import AUTHORITIES, AUTHORITY_INSIDE, CONTROL, INSPECTED, LOCAL, RAW, TUNNEL
from claude_bottle.sidecars.egress.certs import CertAndKey, make_ca, make_leaf

Way = dict[str, Any]  # see `client`


@dataclass(frozen=True, slots=True)
class Ways:
    """One way through the product, and the direct one to the same listener."""

    through: Way
    direct: Way


@dataclass(frozen=True, slots=True)
class Rig:
    client: Helper
    tunnel: Ways
    raw: Ways
    inspected: Ways
    gate: int  # its port
    control: str  # the socket that takes a new policy


@contextmanager
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="claude-bottle-bench-") as name:
        folder = Path(name)
        internet = make_ca("the internet")
        authorities = _written(folder / AUTHORITIES, internet.cert_pem)
        with helper("server") as server, helper("sidecars") as sidecars, helper("client") as client:
            ports = {
                TUNNEL: server.ask(certificate=_certificate(folder, internet, TUNNEL))["port"],
                LOCAL: server.ask(certificate=_certificate(folder, internet, LOCAL))["port"],
                RAW: server.ask(certificate=None)["port"],
            }
            gate, inside = sidecars.ask(folder=name, ports=ports)["gate"], str(folder / AUTHORITY_INSIDE)
            yield Rig(
                client,
                tunnel=Ways(_way(TUNNEL, authorities, gate=gate), _way(TUNNEL, authorities, ports[TUNNEL])),
                raw=Ways(_way(RAW, None, gate=gate), _way(RAW, None, ports[RAW])),
                inspected=Ways(_way(INSPECTED, inside, gate=gate), _way(LOCAL, authorities, ports[LOCAL])),
                gate=gate,
                control=str(folder / CONTROL),
            )


def _way(host: str, authority: str | None, port: int = 0, gate: int | None = None) -> Way:
    return {"gate": gate, "host": host, "port": port, "authority": authority}


def _certificate(folder: Path, authority: CertAndKey, host: str) -> str:
    leaf = make_leaf(authority, host)
    return _written(folder / f"{host}.pem", leaf.cert_pem + leaf.key_pem)


def _written(path: Path, text: str) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    return str(path)
