"""A real bundle without a bottle, as a process of its own: gate, dialler, authorization, log and Envoy.

It is what the keeper runs, started in the same order; only the gate's socket listens on the host's own
loopback, Envoy is not confined, and opaque rules have an upstream on loopback, which no manifest can give
them. One question starts it; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

from bench.children import answer, questions
from bench.routes import AUTHORITIES, AUTHORITY_INSIDE, CONTROL, INSPECTED, SECRET, policy
from claude_bottle.errors import BottleError
from claude_bottle.sidecars.bundle import Bundle
from claude_bottle.sidecars.bundle_spec import BundleSpec
from claude_bottle.sidecars.child import Child, write_for_envoy
from claude_bottle.sidecars.egress.certs import make_ca, make_leaves
from claude_bottle.sidecars.egress.envoy import find_envoy
from claude_bottle.sidecars.egress.envoy_start import (
    CLUSTERS_FILE,
    ENVOY_CONFIG,
    ENVOY_LOG,
    LISTENERS_FILE,
    envoy_argv,
    envoy_bootstrap,
)


def spec_of(ports: dict[str, int]) -> BundleSpec:
    """Writes the authority that the client has to trust."""
    binary = find_envoy()
    if binary is None:
        raise BottleError("there is no Envoy: run script/bootstrap")
    authority = make_ca("the bottle")
    with open(AUTHORITY_INSIDE, "w") as file:
        file.write(authority.cert_pem)
    return BundleSpec(
        policy=policy(ports),
        leaves=make_leaves(authority, [INSPECTED]),
        credentials={str(SECRET): "fake"},
        envoy=tuple(envoy_argv(str(binary), ENVOY_CONFIG)),
        envoy_uid=None,
        authorities=AUTHORITIES,
        decisions="decisions.jsonl",
        services="services",
        authority=authority,
        control=CONTROL,
        control_uid=os.geteuid(),
    )


def start_envoy(argv: list[str]) -> Child:
    empty: dict[str, object] = {"resources": []}
    for name, content in ((ENVOY_CONFIG, envoy_bootstrap()), (CLUSTERS_FILE, empty), (LISTENERS_FILE, empty)):
        write_for_envoy(name, content, None)
    return Child(argv, ENVOY_LOG)


async def live(spec: BundleSpec, envoy: Child) -> None:
    bundle = Bundle(spec, envoy)
    try:
        await bundle.start_behind()
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        bundle.open_gate(listener)
        answer(gate=listener.getsockname()[1])
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.add_reader(sys.stdin.fileno(), _end, over)
        await asyncio.wait([over, bundle.failed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        bundle.close()


def _end(over: asyncio.Future[None]) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    over.set_result(None)


def main() -> None:
    question: dict[str, Any] | None = next(questions(), None)
    if question is None:
        return
    os.umask(0o077)
    os.chdir(question["folder"])
    try:
        spec = spec_of(question["ports"])
        asyncio.run(live(spec, start_envoy(list(spec.envoy))))
    except (BottleError, OSError, ValueError) as error:
        answer(error=str(error))


if __name__ == "__main__":
    main()
