"""A manifest is taken as a whole, with every key, or refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_bottle.manifest.model import (
    Agent,
    EnvValue,
    GitRepo,
    GitUser,
    Limits,
    Manifest,
    SshEntry,
    Supervise,
    resolved_digest,
)
from claude_bottle.manifest.parse import ManifestError, Position, parse_manifest
from claude_bottle.policy.model import Auth, Route, SecretRef, Upstream
from tests.support.manifests import bottle, route

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0"
EVERYTHING: dict[str, Any] = {
    "$schema": "https://example.org/manifest.schema.json",
    "bottles": {
        "dev": {
            "env": {"A": "x", "B": "${HOME}", "C": "?", "D": "?Which token"},
            "egress": {
                "routes": [
                    {
                        "host": "API.example.org",
                        "ports": [443, 8443],
                        "methods": ["GET", "POST"],
                        "paths": ["/v1/"],
                        "auth": {"scheme": "header:x-api-key", "secret": {"command": ["pass", "show", "x"]}},
                        "inspect": True,
                        "upstream": "http://127.0.0.1:11434",
                        "detectors": [],
                    },
                    {"host": "*.example.net", "inspect": False},
                ],
                "allowlist": ["files.example.org"],
            },
            "ssh": [
                {
                    "Host": "box",
                    "IdentityFile": "~/.ssh/id",
                    "Hostname": "box.example.org",
                    "User": "me",
                    "Port": 2222,
                    "KnownHostKey": KEY,
                }
            ],
            "git": {
                "repos": {
                    "app": {
                        "url": "git@github.com:me/app.git",
                        "identity": "~/.ssh/id",
                        "host_key": KEY,
                        "refs": ["refs/heads/agent/*"],
                    }
                },
                "user": {"name": "Me", "email": "me@example.org"},
            },
            "workspace": "overlay",
            "supervise": False,
            "limits": {"memory": "512M", "cpus": 1.5, "pids": 200, "disk": "4G", "wall_time": "2h"},
            "image": "node:22",
            "packages": ["git", "ripgrep=13.0.0-4"],
            "runtime": "runsc",
        },
        "child": {"extends": "dev", "dockerfile": "~/Dockerfile"},
    },
    "agents": {
        "reviewer": {
            "bottle": "dev",
            "prompt": "Review.",
            "skills": ["lint"],
            "git": {"user": {"email": "bot@example.org"}},
            "name": "The reviewer",
            "description": "Reviews",
            "model": "opus",
            "color": "blue",
            "memory": "project",
            "tools": "Read, Grep",
        },
        "pair": {"bottle": ["dev", "child"]},
    },
}


def test_every_key() -> None:
    manifest = Manifest.from_json_obj(EVERYTHING)
    dev = manifest.bottles["dev"]
    assert dict(dev.env) == {
        "A": EnvValue("literal", "x"),
        "B": EnvValue("host", "HOME"),
        "C": EnvValue("ask", ""),
        "D": EnvValue("ask", "Which token"),
    }
    assert dev.egress.routes == (
        Route(
            "api.example.org",
            ports=(443, 8443),
            methods=("GET", "POST"),
            paths=("/v1/",),
            auth=Auth("header:x-api-key", SecretRef("command", ("pass", "show", "x"))),
            upstream=Upstream("http", "127.0.0.1", 11434),
        ),
        Route("*.example.net", inspect=False),
        Route("files.example.org"),
    )
    assert dev.ssh == (SshEntry("box", "~/.ssh/id", "box.example.org", "me", 2222, KEY),)
    assert dict(dev.git.repos) == {
        "app": GitRepo("git@github.com:me/app.git", "~/.ssh/id", KEY, ("refs/heads/agent/*",))
    }
    assert dev.git.user == GitUser("Me", "me@example.org")
    assert (dev.workspace, dev.image, dev.dockerfile) == ("overlay", "node:22", None)
    assert not dev.supervise
    assert dev.limits == Limits(512 << 20, 1.5, 200, 4 << 30, 7200)
    assert (dev.packages, dev.runtime) == (("git", "ripgrep=13.0.0-4"), "runsc")
    assert manifest.agents["reviewer"] == Agent(
        name="reviewer",
        bottle="dev",
        prompt="Review.",
        skills=("lint",),
        git_user=GitUser(None, "bot@example.org"),
        display_name="The reviewer",
        description="Reviews",
        model="opus",
        color="blue",
        memory="project",
        tools=("Read", "Grep"),
    )
    assert manifest.bottle_of("reviewer").git.user == GitUser("Me", "bot@example.org")


def test_defaults() -> None:
    dev = Manifest.from_json_obj(bottle()).bottles["dev"]
    assert dev.supervise
    assert dev.workspace is None
    assert dev.limits == Limits()
    assert dev.egress.routes == ()


@pytest.mark.parametrize(
    ("written", "meant", "patience"),
    [
        (True, Supervise(), None),
        (False, Supervise(False), None),
        ({}, Supervise(), None),
        ({"unanswered": "wait"}, Supervise(True, "wait"), None),
        ({"unanswered": "reject"}, Supervise(True, "reject"), 0.0),
        ({"unanswered": "reject", "after": "10m"}, Supervise(True, "reject", 600), 600.0),
        ({"notify": ["tell", "-x"]}, Supervise(notify=("tell", "-x")), None),
    ],
)
def test_supervision(written: object, meant: Supervise, patience: float | None) -> None:
    found = Manifest.from_json_obj(bottle(supervise=written)).bottles["dev"].supervise
    assert found == meant
    assert bool(found) is (written is not False)
    assert found.patience == patience


def test_nothing_is_a_manifest_too() -> None:
    assert Manifest.from_json_obj({}) == Manifest({}, {})


def test_a_manifest_cannot_be_changed() -> None:
    manifest = Manifest.from_json_obj(EVERYTHING)
    for mapping in (manifest.bottles, manifest.agents, manifest.bottles["dev"].env):
        with pytest.raises(TypeError):
            mapping["x"] = None  # type: ignore[index]


def test_several_routes_of_one_host_are_fine() -> None:
    routes = [
        {"host": "a.example", "methods": ["GET"]},
        {"host": "a.example", "ports": [22], "inspect": False},
    ]
    assert len(Manifest.from_json_obj(bottle(egress={"routes": routes})).bottles["dev"].egress.routes) == 2


def test_the_origin_of_a_route_is_its_place() -> None:
    at = {("bottles", "dev", "egress", "routes", 0): Position("dev.md", 4, 5)}
    manifest = parse_manifest(route(), at)
    assert manifest.bottles["dev"].egress.routes[0].origin == "dev.md:4"


def test_the_digest_is_of_the_meaning() -> None:
    plain = parse_manifest(EVERYTHING)
    placed = parse_manifest(EVERYTHING, {(): Position("m.json", 1, 1)})
    assert resolved_digest(plain, "reviewer") == resolved_digest(placed, "reviewer")
    assert resolved_digest(plain, "reviewer") != resolved_digest(plain, "pair")
    changed = copy.deepcopy(EVERYTHING)
    changed["bottles"]["dev"]["supervise"] = True
    assert resolved_digest(parse_manifest(changed), "reviewer") != resolved_digest(plain, "reviewer")


WORDS = (
    "dev a host ports methods paths auth secret command egress routes allowlist ssh Host Port git repos user "
    "url refs env limits memory cpus extends bottle prompt skills tools workspace inspect upstream"
)
KEYS = st.sampled_from(WORDS.split()) | st.text(max_size=4)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.dictionaries(KEYS, st.dictionaries(KEYS, PLAIN))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["bottles", "agents"]), st.dictionaries(KEYS, st.dictionaries(KEYS, PLAIN))
    )
    | PLAIN
)
def test_whatever_it_is_it_is_a_manifest_or_a_manifest_error(obj: object) -> None:
    try:
        manifest = Manifest.from_json_obj(obj)
    except ManifestError as error:
        problems = error.problems
    else:
        problems = ()
        assert all(agent.bottle in manifest.bottles for agent in manifest.agents.values())
    assert all(str(problem).isprintable() for problem in problems)
