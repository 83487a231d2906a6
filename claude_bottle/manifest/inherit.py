"""Inheritance between bottles: the order of a bottle's ancestors, and how one is laid over another.

Invariant: in a fold every bottle counts once, after all of its own parents. So a parent that two
branches share cannot bring back what one of the branches has narrowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from claude_bottle.manifest.model import Bottle, BottleEgress, Git, Limits, SshEntry, Supervise
from claude_bottle.policy.routes import merge_routes

MAX_CHAIN = 32

Values = Mapping[str, Any]


class BrokenChainError(ValueError):
    """A cycle, a missing parent or a chain without end; `chain` are the names along it."""

    def __init__(self, message: str, chain: Sequence[str], missing: str = "") -> None:
        super().__init__(f"{message} ({' -> '.join(chain)})")
        self.chain = tuple(chain)
        self.missing = missing


def ancestry(name: str, parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """All that `name` is folded from, itself last. Raises BrokenChainError."""
    order: list[str] = []

    def visit(current: str, chain: tuple[str, ...]) -> None:
        if current in chain:
            raise BrokenChainError(
                "bottles extend each other in a circle", (*chain[chain.index(current) :], current)
            )
        if current not in parents:
            raise BrokenChainError("extends a bottle that does not exist", (*chain, current), missing=current)
        if len(chain) >= MAX_CHAIN:
            raise BrokenChainError(f"the chain of parents is longer than {MAX_CHAIN}", chain[:3])
        if current in order:
            return
        for parent in parents[current]:
            visit(parent, (*chain, current))
        order.append(current)

    visit(name, ())
    return tuple(order)


def fold(layers: Sequence[Values]) -> dict[str, Any]:
    """The keys of all layers, later ones laid over earlier ones."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if key in result and key in _MERGE:
                result[key] = _MERGE[key](result[key], value)
            else:
                result[key] = value
        for key, other in (("image", "dockerfile"), ("dockerfile", "image")):
            if key in layer:
                result.pop(other, None)
    return result


def build(name: str, layers: Sequence[Values], extends: tuple[str, ...], origin: str) -> Bottle:
    folded = fold(layers)
    folded.pop("extends", None)
    return Bottle(name=name, extends=extends, origin=origin, **folded)


def _maps(base: Mapping[str, Any], over: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType({**base, **over})


def _egress(base: BottleEgress, over: BottleEgress) -> BottleEgress:
    return BottleEgress(merge_routes(base.routes, over.routes))


def _ssh(base: tuple[SshEntry, ...], over: tuple[SshEntry, ...]) -> tuple[SshEntry, ...]:
    named = {entry.host for entry in over}
    return tuple(entry for entry in base if entry.host not in named) + over


def _git(base: Git, over: Git) -> Git:
    return Git(_maps(base.repos, over.repos), base.user.overlaid(over.user))


def _limits(base: Limits, over: Limits) -> Limits:
    return base._replace(**{key: value for key, value in over._asdict().items() if value is not None})


def _supervise(base: Supervise, over: Supervise) -> Supervise:
    return base.overlaid(over)


def _union(base: tuple[str, ...], over: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(base + over))


# Keys that are not here are scalars: the later one wins.
_MERGE: Mapping[str, Callable[[Any, Any], Any]] = {
    "env": _maps,
    "egress": _egress,
    "ssh": _ssh,
    "git": _git,
    "limits": _limits,
    "packages": _union,
    "supervise": _supervise,
}
