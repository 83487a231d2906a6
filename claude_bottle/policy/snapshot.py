"""A policy as JSON and back, for the files and sockets between processes.

Invariant: what `policy_from_json` returns would have passed the manifest's own checks;
anything unknown, missing, mistyped or not canonical is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from claude_bottle.policy.hosts import parse_pattern
from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.policy.rules import (
    DETECTORS,
    check_method,
    check_port,
    check_prefix,
    check_scheme,
    check_secret,
    parse_upstream,
    route_conflicts,
)

SCHEMA = 1
MAX_ROUTES = 4096
MAX_LIST = 1024

_T = TypeVar("_T")


class PolicyFormatError(ValueError):
    """The object is not a policy; nothing of it may be used."""


def policy_to_json(policy: Policy) -> dict[str, object]:
    """Names of secrets included, secrets never: a `SecretRef` has none."""
    return {
        "schema": SCHEMA,
        "version": policy.version,
        "routes": [route_to_json(route) for route in policy.routes],
    }


def policy_from_json(obj: object) -> Policy:
    """The inverse of `policy_to_json`; raises PolicyFormatError."""
    fields = _record(obj, "policy", ("schema", "version", "routes"))
    if _typed(fields["schema"], int, "schema") != SCHEMA:
        raise PolicyFormatError(f"schema: this version reads {SCHEMA} only")
    version = _typed(fields["version"], int, "version")
    if version < 1:
        raise PolicyFormatError("version: begins at 1")
    routes = _typed(fields["routes"], list, "routes")
    if len(routes) > MAX_ROUTES:
        raise PolicyFormatError(f"routes: more than {MAX_ROUTES}")
    return Policy(tuple(route_from_json(item, f"routes[{at}]") for at, item in enumerate(routes)), version)


def route_to_json(route: Route) -> dict[str, object]:
    auth, upstream = route.auth, route.upstream
    return {
        "host": route.host,
        "ports": list(route.ports),
        "methods": list(route.methods),
        "paths": list(route.paths),
        "auth": auth
        and {
            "scheme": auth.scheme,
            "secret": {"kind": auth.secret.kind, "argument": list(auth.secret.argument)},
        },
        "inspect": route.inspect,
        "upstream": upstream and {"scheme": upstream.scheme, "host": upstream.host, "port": upstream.port},
        "detectors": list(route.detectors),
        "origin": route.origin,
    }


def route_from_json(obj: object, where: str) -> Route:
    fields = _record(obj, where, Route._fields)
    try:
        route = Route(
            host=_typed(fields["host"], str, f"{where}.host"),
            ports=_items(fields["ports"], int, f"{where}.ports"),
            methods=_items(fields["methods"], str, f"{where}.methods"),
            paths=_items(fields["paths"], str, f"{where}.paths"),
            auth=None if fields["auth"] is None else _auth(fields["auth"], f"{where}.auth"),
            inspect=_typed(fields["inspect"], bool, f"{where}.inspect"),
            upstream=None
            if fields["upstream"] is None
            else _upstream(fields["upstream"], f"{where}.upstream"),
            detectors=_items(fields["detectors"], str, f"{where}.detectors"),
            origin=_typed(fields["origin"], str, f"{where}.origin"),
        )
        _check(route)
    except PolicyFormatError:
        raise
    except ValueError as error:
        raise PolicyFormatError(f"{where}: {error}") from None
    return route


def _check(route: Route) -> None:
    if parse_pattern(route.host) != route.host:
        raise ValueError("the host is not in its canonical form")
    if not route.ports:
        raise ValueError("a route has at least one port")
    for port in route.ports:
        check_port(port)
    for method in route.methods:
        check_method(method)
    for prefix in route.paths:
        check_prefix(prefix)
    if unknown := set(route.detectors) - set(DETECTORS):
        raise ValueError(f"{len(unknown)} detectors do not exist here")
    if not route.origin.isprintable():
        raise ValueError("the origin is not printable")
    present = [key for key in ("methods", "paths", "auth", "upstream", "detectors") if getattr(route, key)]
    for key, why in route_conflicts(route.host, present, route.inspect):
        raise ValueError(f"{key}: {why}")


def _auth(obj: object, where: str) -> Auth:
    fields = _record(obj, where, ("scheme", "secret"))
    secret = _record(fields["secret"], f"{where}.secret", ("kind", "argument"))
    kind = _typed(secret["kind"], str, f"{where}.secret.kind")
    argument = _items(secret["argument"], str, f"{where}.secret.argument")
    ref: SecretRef = check_secret(kind, argument)
    return Auth(check_scheme(_typed(fields["scheme"], str, f"{where}.scheme")), ref)


def _upstream(obj: object, where: str) -> Upstream:
    fields = _record(obj, where, ("scheme", "host", "port"))
    upstream = Upstream(
        _typed(fields["scheme"], str, f"{where}.scheme"),
        _typed(fields["host"], str, f"{where}.host"),
        _typed(fields["port"], int, f"{where}.port"),
    )
    if parse_upstream(str(upstream)) != upstream:
        raise PolicyFormatError(f"{where}: not in its canonical form")
    return upstream


def _record(obj: object, where: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    fields: dict[str, object] = _typed(obj, dict, where)
    if set(fields) != set(keys):
        raise PolicyFormatError(f"{where}: has not exactly the keys {', '.join(keys)}")
    return fields


def _typed(value: object, kind: type[_T], where: str) -> _T:
    # `type(...) is`: a bool is an int to isinstance, and must not pass for a port or a version.
    if type(value) is not kind:
        raise PolicyFormatError(f"{where}: expected {kind.__name__}")
    return value


def _items(value: object, kind: type[_T], where: str) -> tuple[_T, ...]:
    items: list[object] = _typed(value, list, where)
    if len(items) > MAX_LIST:
        raise PolicyFormatError(f"{where}: more than {MAX_LIST} items")
    return tuple(_typed(item, kind, f"{where}[{at}]") for at, item in enumerate(items))
