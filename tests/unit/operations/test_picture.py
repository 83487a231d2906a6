"""What a bottle was, so that a later look can tell what has changed; and no secret in it."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.manifest.model import Agent, Bottle, EnvValue, Limits
from claude_bottle.operations.picture import Change, Picture, difference, draw, load, parse, render, save
from claude_bottle.policy.model import Auth, Route, SecretRef
from claude_bottle.state.paths import BottlePaths

AGENT = Agent("reviewer", "plain", prompt="Be brief.", skills=("lint",))
ROUTE = Route("api.example.org", methods=("GET",), paths=("/v1",))
SECRET = Route("git.example.org", auth=Auth("bearer", SecretRef("command", ("pass", "top-secret-argument"))))


def bottle(**env: EnvValue) -> Bottle:
    return Bottle("plain", env=MappingProxyType(env), limits=Limits(memory=1 << 30))


BEFORE = draw(AGENT, bottle(TOKEN=EnvValue("literal", "s3cret-value")), [ROUTE, SECRET])


def changes(now: Picture, before: Picture | None = BEFORE, *, same: bool = False) -> set[Change]:
    return set(difference(before, now, same_digest=same))


def test_no_value_of_a_secret_is_in_it() -> None:
    text = render(BEFORE)
    assert "s3cret" not in text
    assert "top-secret-argument" not in text
    assert "Be brief" not in text
    assert "TOKEN" in text
    assert "command:pass" in text


def test_nothing_changed_says_nothing() -> None:
    assert changes(BEFORE, same=True) == set()
    assert changes(BEFORE, None, same=True) == set()


def test_reach_that_is_new_and_reach_that_is_gone() -> None:
    now = draw(
        AGENT, bottle(OTHER=EnvValue("host", "HOME")), [SECRET, ROUTE._replace(methods=("GET", "POST"))]
    )
    assert changes(now) == {
        Change("added", "may reach", "api.example.org  GET,POST  /v1"),
        Change("removed", "may reach", "api.example.org  GET  /v1"),
        Change("added", "variable", "OTHER from ${HOME} of the host"),
        Change("removed", "variable", "TOKEN"),
    }


def test_limits_packages_skills_model_bottle_and_prompt() -> None:
    agent = AGENT._replace(skills=(), model="opus", prompt="Be long.")
    other = bottle(TOKEN=EnvValue("literal", "s3cret-value"))
    now = draw(agent, other._replace(name="wide", limits=Limits(pids=9), packages=("gcc",)), [ROUTE, SECRET])
    assert changes(now) == {
        Change("added", "bottle", "wide"),
        Change("removed", "bottle", "plain"),
        Change("added", "limit", "pids 9"),
        Change("removed", "limit", "memory 1073741824"),
        Change("added", "package", "gcc"),
        Change("removed", "skill", "lint"),
        Change("", "skills", "those of the first start stay; a new start takes the new ones"),
        Change("added", "model", "opus"),
        Change("", "prompt", "it has changed"),
    }


def test_what_cannot_be_shown_is_told_of() -> None:
    value = draw(AGENT, bottle(TOKEN=EnvValue("literal", "another")), [ROUTE, SECRET])
    assert changes(value) == {Change("", "values", "of variables or secrets have changed")}
    secret = SECRET._replace(auth=Auth("bearer", SecretRef("command", ("pass", "other"))))
    assert changes(draw(AGENT, bottle(TOKEN=EnvValue("literal", "s3cret-value")), [ROUTE, secret])) == {
        Change("", "values", "of variables or secrets have changed")
    }
    assert changes(BEFORE) == {Change("", "manifest", "it has changed, but not what this bottle may do")}
    assert changes(BEFORE, None) == {Change("", "manifest", "it has changed; what it was is not known")}


pictures = st.lists(st.tuples(st.text(), st.text())).map(lambda pairs: tuple(sorted(set(pairs))))


@given(pictures)
def test_what_is_rendered_is_parsed(picture: Picture) -> None:
    assert parse(render(picture)) == picture


@given(pictures, pictures)
def test_a_change_is_never_passed_over(before: Picture, now: Picture) -> None:
    assert bool(difference(before, now, same_digest=True)) == (before != now)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '{"schema": 2, "picture": []}',
        '{"schema": 1, "picture": [[1, 2]]}',
        "[" * 50_000,
    ],
)
def test_what_is_no_picture_is_none(text: str) -> None:
    assert parse(text) is None


def test_it_lies_beside_the_metadata(tmp_path: object) -> None:
    paths = BottlePaths(tmp_path)  # type: ignore[arg-type]
    assert load(paths) is None
    save(paths, BEFORE)
    assert load(paths) == BEFORE
