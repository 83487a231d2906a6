"""gVisor under an engine: a kernel of the bottle's own, between its programs and the engine's kernel. Pure.

Theory. Its network stack is its own as well: its sockets have no descriptor outside and cannot be handed
over. The bottle still has no network. A ferry inside carries bytes between its loopback and a unix socket on
a volume that only the ferry may enter (`sidecars.ferry`). gVisor lets programs connect to such a socket where
the engine starts it with `--host-uds=open`, and filters all of its programs' calls with `--oci-seccomp`.

Invariant: what was asked for is there as a whole, or the launch is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUNTIME = "runsc"
_NEEDED = ("--host-uds=open", "--oci-seccomp")
HINT = f"install gVisor, then `{RUNTIME} install -- {' '.join(_NEEDED)}`, and restart the engine"


def arguments(runtimes: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What the engine starts gVisor with, of what `docker info` says; None where it does not have it."""
    found = runtimes.get(RUNTIME)
    if not isinstance(found, Mapping):
        return None
    given = found.get("runtimeArgs")
    return tuple(map(str, given)) if isinstance(given, list) else ()


def lacking(given: tuple[str, ...] | None, kernel: str) -> str:
    """Why a bottle cannot have it here; empty where it can. `kernel` is the release of the engine's."""
    if given is None:
        return f"the engine has no runtime {RUNTIME}, which this bottle asks for"
    if missing := [word for word in _NEEDED if word not in given]:
        return f"the engine starts {RUNTIME} without {' and '.join(missing)}, which a bottle needs"
    return "" if kernel else "the engine does not say which kernel it runs on, so gVisor cannot be proved"
