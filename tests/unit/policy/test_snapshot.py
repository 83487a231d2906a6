"""A policy survives the way through JSON, and nothing else comes out of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from claude_bottle.policy.model import Auth, Policy, Route, SecretRef, Upstream
from claude_bottle.policy.routes import PolicyFormatError, policy_from_json, policy_to_json

FULL = Route(
    "api.example.org",
    ports=(443, 8443),
    methods=("GET", "POST"),
    paths=("/v1/", "/v2"),
    auth=Auth("header:x-api-key", SecretRef("command", ("pass", "show", "a b"))),
    upstream=Upstream("http", "::1", 11434),
    origin="bottles/dev.md:4",
)
POLICY = Policy((FULL, Route("*.example.net", inspect=False)), version=7)


def test_there_and_back() -> None:
    assert policy_from_json(json.loads(json.dumps(policy_to_json(POLICY)))) == POLICY


@pytest.mark.parametrize("secret", [SecretRef("env", ("TOKEN",)), SecretRef("file", ("~/.token",))])
@pytest.mark.parametrize("scheme", ["bearer", "token", "basic", "header:Authorization"])
def test_every_credential_survives(secret: SecretRef, scheme: str) -> None:
    policy = Policy((Route("a.example", auth=Auth(scheme, secret)),))
    assert policy_from_json(policy_to_json(policy)) == policy


def edit(*path: str | int) -> Callable[[dict[str, Any], object], None]:
    def change(obj: dict[str, Any], value: object) -> None:
        target: Any = obj
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = value

    return change


ROUTE = ("routes", 0)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (edit("schema"), 2),
        (edit("schema"), True),
        (edit("version"), 0),
        (edit("version"), "7"),
        (edit("version"), 7.0),
        (edit("routes"), {}),
        (edit("routes"), [None]),
        (edit("extra"), 1),
        (edit(*ROUTE, "hots"), "x"),
        (edit(*ROUTE, "host"), "API.example.org"),
        (edit(*ROUTE, "host"), "*"),
        (edit(*ROUTE, "host"), "*.example.org"),  # with an upstream
        (edit(*ROUTE, "ports"), []),
        (edit(*ROUTE, "ports"), [0]),
        (edit(*ROUTE, "ports"), [True]),
        (edit(*ROUTE, "ports"), 443),
        (edit(*ROUTE, "methods"), ["CONNECT"]),
        (edit(*ROUTE, "methods"), "GET"),
        (edit(*ROUTE, "paths"), ["/a/../b"]),
        (edit(*ROUTE, "paths"), [""]),
        (edit(*ROUTE, "inspect"), False),  # with methods, paths, auth
        (edit(*ROUTE, "inspect"), None),
        (edit(*ROUTE, "detectors"), ["none-such"]),
        (edit(*ROUTE, "origin"), "a\x1b[2J"),
        (edit(*ROUTE, "auth"), {}),
        (edit(*ROUTE, "auth", "scheme"), "header:Host"),
        (edit(*ROUTE, "auth", "secret"), "env:TOKEN"),
        (edit(*ROUTE, "auth", "secret", "kind"), "vault"),
        (edit(*ROUTE, "auth", "secret", "argument"), []),
        (edit(*ROUTE, "upstream", "port"), 70000),
        (edit(*ROUTE, "upstream", "scheme"), "ftp"),
        (edit(*ROUTE, "upstream", "host"), "a/b"),
        (edit(*ROUTE, "upstream", "host"), "LOCALHOST"),
    ],
)
def test_anything_else_is_refused(change: Callable[[dict[str, Any], object], None], value: object) -> None:
    obj = copy.deepcopy(policy_to_json(POLICY))
    policy_from_json(obj)
    change(obj, value)
    with pytest.raises(PolicyFormatError):
        policy_from_json(obj)


@pytest.mark.parametrize("obj", [None, [], "x", 1, {}, {"schema": 1, "version": 1}])
def test_not_a_policy(obj: object) -> None:
    with pytest.raises(PolicyFormatError):
        policy_from_json(obj)


@pytest.mark.parametrize("key", sorted(Route._fields))
def test_no_key_of_a_route_has_a_default(key: str) -> None:
    obj: Any = copy.deepcopy(policy_to_json(POLICY))
    del obj["routes"][0][key]
    with pytest.raises(PolicyFormatError):
        policy_from_json(obj)
