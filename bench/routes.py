"""The three ways of the traffic benchmarks, as a policy. Pure."""

from __future__ import annotations

from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream

TUNNEL, RAW, INSPECTED, LOCAL = "tunnel.example.org", "raw.example.org", "inspected.example.org", "localhost"
AUTHORITIES, AUTHORITY_INSIDE, CONTROL = "internet.pem", "bottle.pem", "control"  # files of the rig
SECRET = SecretRef("env", ("BENCH",))


def policy(ports: dict[str, int]) -> Policy:
    """An upstream is the one way to a private address, such as loopback."""
    opaque = [
        Route(host, inspect=False, upstream=Upstream("http", "127.0.0.1", ports[host]))
        for host in (TUNNEL, RAW)
    ]
    inspected = Route(
        INSPECTED,
        methods=("GET", "POST"),
        paths=("/v1", "/events"),
        auth=Auth("header:x-api-key", SECRET),
        upstream=Upstream("https", LOCAL, ports[LOCAL]),
    )
    return Policy((*opaque, inspected))
