"""Bottles that extend bottles."""

from __future__ import annotations

from typing import Any

import pytest

from claude_bottle.manifest.inherit import BrokenChainError, ancestry
from claude_bottle.manifest.model import Bottle, EnvValue, GitUser, Limits, Manifest, Supervise
from claude_bottle.manifest.parse import ManifestError


def fold(title: str, **bottles: dict[str, Any]) -> Bottle:
    return Manifest.from_json_obj({"bottles": bottles}).bottles[title]


def problems(**bottles: dict[str, Any]) -> list[str]:
    with pytest.raises(ManifestError) as refused:
        Manifest.from_json_obj({"bottles": bottles})
    return [str(problem) for problem in refused.value.problems]


def routes(*hosts: str, **keys: object) -> dict[str, Any]:
    return {"routes": [{"host": host, **keys} for host in hosts]}


def test_scalars_override_and_mappings_merge() -> None:
    base = {
        "env": {"A": "1", "B": "1"},
        "workspace": "clone",
        "supervise": False,
        "limits": {"memory": "1G", "pids": 10},
        "packages": ["git", "make"],
        "git": {
            "repos": {"a": {"url": "https://a.example/a"}, "b": {"url": "https://a.example/b"}},
            "user": {"name": "N"},
        },
        "ssh": [{"Host": "x", "IdentityFile": "/1"}, {"Host": "y", "IdentityFile": "/1"}],
    }
    over = {
        "extends": "base",
        "env": {"B": "2"},
        "workspace": "copy",
        "limits": {"pids": 20},
        "packages": ["make", "gcc"],
        "git": {"repos": {"b": {"url": "https://b.example/b"}}, "user": {"email": "e"}},
        "ssh": [{"Host": "x", "IdentityFile": "/2"}],
    }
    child = fold("child", base=base, child=over)
    assert dict(child.env) == {"A": EnvValue("literal", "1"), "B": EnvValue("literal", "2")}
    assert (child.workspace, child.supervise) == ("copy", Supervise(False))
    assert child.limits == Limits(memory=1 << 30, pids=20)
    assert child.packages == ("git", "make", "gcc")
    assert {name: repo.url for name, repo in child.git.repos.items()} == {
        "a": "https://a.example/a",
        "b": "https://b.example/b",
    }
    assert child.git.user == GitUser("N", "e")
    assert [(entry.host, entry.identity_file) for entry in child.ssh] == [("y", "/1"), ("x", "/2")]
    assert child.extends == ("base",)


@pytest.mark.parametrize(
    ("over", "meant"),
    [
        ({"notify": ["b"]}, Supervise(True, "reject", 60, ("b",))),
        ({"unanswered": "wait"}, Supervise(True, "wait", None, ("a",))),
        ({"unanswered": "reject"}, Supervise(True, "reject", None, ("a",))),
        (False, Supervise(False, "reject", 60, ("a",))),
        (True, Supervise(True, "reject", 60, ("a",))),
    ],
)
def test_supervision_is_laid_over_by_what_belongs_together(over: object, meant: Supervise) -> None:
    base = {"supervise": {"unanswered": "reject", "after": "1m", "notify": ["a"]}}
    assert fold("child", base=base, child={"extends": "base", "supervise": over}).supervise == meant


def test_the_own_routes_of_a_host_replace_the_inherited_ones() -> None:
    child = fold(
        "child",
        base={"egress": routes("a.example", "b.example")},
        child={"extends": "base", "egress": routes("a.example", methods=["GET"])},
    )
    assert [(route.host, route.methods) for route in child.egress.routes] == [
        ("b.example", ()),
        ("a.example", ("GET",)),
    ]


def test_parents_are_folded_left_to_right() -> None:
    bottles = {"a": {"env": {"X": "a"}}, "b": {"env": {"X": "b"}}}
    assert fold("c", **bottles, c={"extends": ["a", "b"]}).env["X"].value == "b"
    assert fold("c", **bottles, c={"extends": ["b", "a"]}).env["X"].value == "a"


@pytest.mark.parametrize("parents", [["narrow", "other"], ["other", "narrow"], ["narrow", "base"]])
def test_a_shared_parent_does_not_bring_back_what_one_branch_narrowed(parents: list[str]) -> None:
    child = fold(
        "child",
        base={"egress": routes("a.example")},
        narrow={"extends": "base", "egress": routes("a.example", methods=["GET"])},
        other={"extends": "base", "env": {"X": "1"}},
        child={"extends": parents},
    )
    assert [route.methods for route in child.egress.routes] == [("GET",)]


def test_an_image_replaces_a_dockerfile() -> None:
    child = fold("child", base={"dockerfile": "/d"}, child={"extends": "base", "image": "i"})
    assert (child.image, child.dockerfile) == ("i", None)


def test_a_circle_is_told_once_with_its_chain() -> None:
    assert problems(a={"extends": "b"}, b={"extends": "a"}, c={"extends": "a"}) == [
        "bottles.a.extends: bottles extend each other in a circle (a -> b -> a)"
    ]
    assert problems(a={"extends": "a"}) == [
        "bottles.a.extends: bottles extend each other in a circle (a -> a)"
    ]


def test_a_missing_parent_is_told_by_who_names_it() -> None:
    assert problems(a={"extends": "b"}, b={"extends": ["bse"]}, base={}) == [
        'bottles.b.extends: extends a bottle that does not exist (b -> bse); did you mean "base"?'
    ]


def test_a_broken_bottle_still_has_its_chain_checked() -> None:
    assert len(problems(a={"extends": "b", "enw": {}}, b={"extends": "a"})) == 2


def test_an_endless_chain_ends() -> None:
    parents = {f"b{number}": [f"b{number + 1}"] for number in range(5000)} | {"b5000": []}
    with pytest.raises(BrokenChainError):
        ancestry("b0", parents)


def test_very_wide_chains_are_quick() -> None:
    parents: dict[str, list[str]] = {"x0": [], "y0": []}
    for level in range(1, 30):
        parents[f"x{level}"] = parents[f"y{level}"] = [f"x{level - 1}", f"y{level - 1}"]
    assert len(ancestry("x29", parents)) == 59


def test_an_agent_with_several_bottles_gets_an_anonymous_child_of_them() -> None:
    manifest = Manifest.from_json_obj(
        {
            "bottles": {"dev": {"env": {"X": "dev"}}, "net": {"env": {"X": "net", "Y": "1"}}},
            "agents": {"a": {"bottle": ["net", "dev"]}, "b": {"bottle": ["dev"]}},
        }
    )
    assert (manifest.agents["a"].bottle, manifest.agents["b"].bottle) == ("net+dev", "dev")
    both = manifest.bottle_of("a")
    assert both.anonymous
    assert both.extends == ("net", "dev")
    assert {name: value.value for name, value in both.env.items()} == {"X": "dev", "Y": "1"}
