"""What a bottle may reach, as frozen data.

A `Route` is one rule of the manifest or of an approval; a `Policy` is an immutable
snapshot of all of them with a version. Nothing here opens a socket or reads a clock.
"""

from __future__ import annotations

from typing import NamedTuple


class SecretRef(NamedTuple):
    """Where a secret is found on the host; never the secret itself.

    kind is "env" (argument: (NAME,)), "file" (argument: (PATH,)) or "command" (argument: argv).
    """

    kind: str
    argument: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}:{' '.join(self.argument)}"


class Auth(NamedTuple):
    """A credential that is added outside the bottle, after the checks.

    scheme is "bearer", "token", "basic" or "header:NAME".
    """

    scheme: str
    secret: SecretRef


class Upstream(NamedTuple):
    """The operator's own gateway or local model: the one way to a private address."""

    scheme: str  # "http" or "https"
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Route(NamedTuple):
    """One rule. Empty `methods` or `paths` mean any; `host` is exact or `*.suffix`."""

    host: str
    ports: tuple[int, ...] = (443,)
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    auth: Auth | None = None
    inspect: bool = True
    upstream: Upstream | None = None
    detectors: tuple[str, ...] = ()
    origin: str = ""  # where the rule was written: "file:line", or "claude-bottle" for its own


class Policy(NamedTuple):
    """An immutable snapshot; a change is a new snapshot with a higher version."""

    routes: tuple[Route, ...]
    version: int = 1


class Decision(NamedTuple):
    """The answer to "may this go out?". `route` is set when, and only when, it may."""

    allowed: bool
    reason: str  # a stable kebab-case word, such as "host-not-allowed"
    route: Route | None = None
    detail: str = ""  # one short sentence for the agent and the operator
    nearest: Route | None = None  # of a refusal: the rule that comes nearest to allowing it
