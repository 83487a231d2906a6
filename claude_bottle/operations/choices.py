"""What is settled before a plan is made: options, backend, Envoy. It loads nothing but what that needs.

So whatever comes up slowly can be started at once, and the rest of the program is loaded meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.backend import get_bottle_backend
from claude_bottle.backend.base import EnvoyFiles
from claude_bottle.errors import BottleError, NotFoundError, UsageError

if TYPE_CHECKING:
    from claude_bottle.backend.base import BottleBackend, Warm
    from claude_bottle.manifest.model import Supervise
    from claude_bottle.operations.context import Context

_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Options(NamedTuple):
    """What the command line adds to the manifest."""

    agent: str
    backend: str | None = None
    workspace: str | None = None  # a mode
    folder: Path | None = None  # instead of the present one
    carry: bool = False
    arguments: tuple[str, ...] = ()  # for claude
    unanswered: Unanswered | None = None


class Unanswered(NamedTuple):
    """What a command says of proposals that nobody answers: where the manifest says nothing, or `over` it."""

    supervise: Supervise
    over: bool = False

    def laid(self, manifest: Supervise) -> Supervise:
        """Raises UsageError where there will be no proposals."""
        if not self.over:
            return self.supervise.overlaid(manifest)
        if not manifest:
            raise UsageError("the manifest lets this agent ask for nothing", "leave out --wait-for-operator")
        return manifest.overlaid(self.supervise)


def choose_backend(context: Context, options: Options) -> BottleBackend:
    return get_bottle_backend(options.backend, context.environment)


def warm_up(context: Context, backend: BottleBackend) -> Warm | None:
    """Starts what no plan decides. Only for an operator who has agreed already. Raises BottleError."""
    return backend.warm_up(context.home.state, lambda: envoy_files(context))


def envoy_files(context: Context) -> EnvoyFiles:
    from claude_bottle.sidecars.egress.envoy import find_envoy

    binary = find_envoy(context.environment)
    if binary is None:
        raise NotFoundError(
            "there is no Envoy on this host", "run script/bootstrap, or set CLAUDE_BOTTLE_ENVOY"
        )
    return EnvoyFiles(str(binary), str(find_authorities(context)))


def find_authorities(context: Context) -> Path:
    """The host's certificate authorities. `SSL_CERT_FILE` where the operator set it."""
    chosen = context.environment.get("SSL_CERT_FILE")
    for path in (chosen,) if chosen else _AUTHORITIES:
        if os.path.isfile(path):
            return Path(path)
    raise BottleError(
        f"there are no certificate authorities at {chosen or _AUTHORITIES[0]}",
        "install ca-certificates, or set SSL_CERT_FILE",
    )
