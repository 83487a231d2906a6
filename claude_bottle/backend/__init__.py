"""The registry of backends: which there are, which one to use, and what runs on all of them.

Invariant: looking never fails as a whole. A backend that is broken or slow becomes a warning row.
"""

from __future__ import annotations

from claude_bottle.errors import BackendMissingError, UsageError

TYPE_CHECKING = False  # as `typing` has it, which an entry into a bottle has no time to load
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from claude_bottle.backend.base import ActiveAgent, BottleBackend, Look

_BACKENDS = {
    "bubblewrap": "claude_bottle.backend.bubblewrap.backend:BubblewrapBackend",
    "docker": "claude_bottle.backend.docker.backend:DockerBackend",
}
_PREFERRED = ("docker", "bubblewrap")


def known_backend_names() -> tuple[str, ...]:
    return tuple(_BACKENDS)


def _load(name: str) -> BottleBackend:
    from importlib import import_module

    module, _, attribute = _BACKENDS[name].partition(":")
    backend: BottleBackend = getattr(import_module(module), attribute)()
    return backend


def has_backend(name: str) -> bool:
    """Whether bottles of this backend can be made on this host."""
    return name in _BACKENDS and _load(name).check().ok


def get_bottle_backend(
    name: str | None = None, environment: Mapping[str, str] | None = None, configured: str | None = None
) -> BottleBackend:
    """The named backend, else `$CLAUDE_BOTTLE_BACKEND`, the configured one, or the first that works here.

    Raises UsageError for an unknown name and BackendMissingError for one that cannot be used here.
    """
    import os

    variables = os.environ if environment is None else environment
    chosen = name if name is not None else variables.get("CLAUDE_BOTTLE_BACKEND") or configured
    if chosen is not None:
        if chosen not in _BACKENDS:
            raise UsageError(f"there is no backend {chosen!r}", f"known: {', '.join(_BACKENDS)}")
        return _ready(chosen)
    for candidate in _PREFERRED:
        if candidate in _BACKENDS and (backend := _load(candidate)).check().ok:
            return backend
    return _ready(_PREFERRED[-1])


def _ready(name: str) -> BottleBackend:
    backend = _load(name)
    readiness = backend.check()
    if not readiness.ok:
        raise BackendMissingError(
            f"the backend {name} cannot be used here: {readiness.reason}", readiness.hint
        )
    return backend


def enumerate_active_agents(
    state: Path, timeout: float = 3.0, names: Collection[str] | None = None
) -> list[ActiveAgent]:
    """Every running agent of every backend, or of these, sorted by start; each has `timeout` seconds."""
    from claude_bottle.backend.fleet import enumerate_all

    return enumerate_all(dict.fromkeys(_BACKENDS if names is None else names, _load), state, timeout)


def look_at_agents(
    slugs: Mapping[str, Sequence[str]], state: Path, timeout: float = 3.0
) -> tuple[dict[str, Look], list[str]]:
    """What more can be seen of running bottles, given as backend -> slugs, and what could not."""
    from claude_bottle.backend.fleet import look_at_all

    return look_at_all(dict.fromkeys(slugs, _load), slugs, state, timeout)


def load_backend(name: str) -> BottleBackend:
    """The backend of a recorded name, usable or not. Raises BackendMissingError for an unknown one."""
    if name not in _BACKENDS:
        raise BackendMissingError(f"this version knows no backend {name!r}", f"known: {', '.join(_BACKENDS)}")
    return _load(name)
