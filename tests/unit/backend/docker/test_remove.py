"""Taking away what is left: what is gone is fine, what goes is waited for, and what stays is said to stay."""

from __future__ import annotations

import threading

import pytest

from claude_bottle.backend.base import Remain
from claude_bottle.backend.docker.api import EngineError
from claude_bottle.backend.docker.cleanup import observe_remains, remove_remains
from claude_bottle.backend.docker.remove import remove_containers, remove_volumes
from claude_bottle.errors import BottleError
from tests.support.fake_engine import Answer, Expected, fake_engine, refuses

GOING = refuses(409, "removal of container a-1 is already in progress")
HOME, SLUG = "0123456789abcdef", "reviewer-00000"


def delete(name: str, answer: Answer) -> Expected:
    return ("DELETE", f"/containers/{name}", {"force": "1", "v": "1"}), answer


def wait(name: str, answer: Answer) -> Expected:
    return ("POST", f"/containers/{name}/wait", {"condition": "removed"}), answer


def test_containers_go_with_what_belongs_to_them_alone_and_gone_ones_are_fine() -> None:
    expected = [delete("a-1", b""), delete("b-1", refuses(404, "No such container: b-1"))]
    with fake_engine(*expected, any_order=True) as engine:
        remove_containers(engine, ["a-1", "b-1"])
    with fake_engine() as engine:
        remove_containers(engine, [])


def test_containers_go_at_once() -> None:
    """One of them waits for the other, as a bottle does for its sidecars."""
    both = threading.Barrier(2)

    class Meeting:
        def ask(self, *_: object, **__: object) -> bytes:
            both.wait(15)
            return b""

    remove_containers(Meeting(), ["a-1", "b-1"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer", [{"StatusCode": 137}, {"StatusCode": 0, "Error": None}, refuses(404, "No such container: a-1")]
)
def test_what_another_removes_is_gone_when_it_returns(answer: Answer) -> None:
    with fake_engine(delete("a-1", GOING), wait("a-1", answer)) as engine:
        remove_containers(engine, ["a-1"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refuses(500, "driver failed"), "driver failed"),
        (refuses(0, "timed out"), "timed out"),
        ({"StatusCode": 137, "Error": {"Message": "driver failed"}}, "driver failed"),
        ({"StatusCode": -1, "Error": "\x9b2J"}, r"\\x9b2J"),
        ({"StatusCode": -1, "Error": "odd"}, "odd"),
        (b"", "form that is not known"),
        (b"[]", "form that is not known"),
    ],
)
def test_what_another_fails_to_remove_is_not_taken_for_gone(answer: Answer, words: str) -> None:
    with fake_engine(delete("a-1", GOING), wait("a-1", answer)) as engine:
        with pytest.raises(BottleError, match=f"container a-1 is not removed: .*{words}"):
            remove_containers(engine, ["a-1"])


@pytest.mark.parametrize(
    "refusal", [refuses(409, "it is locked"), refuses(500, "404"), refuses(0, "timed out")]
)
def test_a_container_that_stays_is_named_and_the_others_go(refusal: EngineError) -> None:
    expected = [delete("a-1", refusal), delete("b-1", b"")]
    with fake_engine(*expected, any_order=True) as engine:
        with pytest.raises(BottleError, match=f"container a-1 cannot be removed: {refusal.message}"):
            remove_containers(engine, ["a-1", "b-1"])


def volume(name: str, answer: Answer) -> Expected:
    return ("DELETE", f"/volumes/{name}", {"force": "1"}), answer


def test_volumes_go_and_gone_ones_are_fine() -> None:
    with fake_engine(volume("a", b""), volume("b", refuses(404)), volume("c", b"")) as engine:
        remove_volumes(engine, ["a", "b", "c"])


@pytest.mark.parametrize("status", [0, 400, 409, 500])
def test_a_volume_that_stays_is_named(status: int) -> None:
    with fake_engine(volume("a", refuses(status, "volume is in use"))) as engine:
        with pytest.raises(BottleError, match="volume a cannot be removed: volume is in use"):
            remove_volumes(engine, ["a"])


# What is left at all

VOLUMES = ("GET", "/volumes", {"filters": {"label": [f"io.claude-bottle.home={HOME}"]}})
CONTAINERS = ("GET", "/containers/json")


def listed(role: str, slug: str = SLUG, state: str = "running") -> dict[str, object]:
    labels = {"io.claude-bottle.slug": slug, "io.claude-bottle.role": role}
    return {"Labels": labels, "State": state, "Names": [f"/claude-bottle-{role}-{slug}"]}


def kept(name: str, slug: str = SLUG) -> dict[str, object]:
    return {"Name": name, "Labels": {"io.claude-bottle.slug": slug}, "Driver": "local"}


def remains(found: list[object], volumes: object, known: frozenset[str]) -> list[Remain]:
    with fake_engine((CONTAINERS, found), (VOLUMES, {"Volumes": volumes, "Warnings": None})) as engine:
        return observe_remains(engine, HOME, known)


def test_what_belongs_to_a_bottle_remains_and_all_else_is_a_remain() -> None:
    whole: list[object] = [listed("agent"), listed("sidecars")]
    volumes = [kept(f"claude-bottle-{SLUG}"), kept(f"claude-bottle-{SLUG}-hand")]
    assert remains(whole, volumes, frozenset((SLUG,))) == []
    assert [item.kind for item in remains(whole, volumes, frozenset())] == ["container"] * 2 + ["volume"] * 2
    (half,) = remains(whole[:1], volumes, frozenset((SLUG,)))
    assert half == Remain("container", f"claude-bottle-agent-{SLUG}", SLUG, "its bottle does not run")
    assert remains([], None, frozenset()) == []


@pytest.mark.parametrize(
    "volumes",
    [
        *(7, "text", [7], [None], [{}], [{"Name": f"claude-bottle-{SLUG}"}], [{"Labels": {}}]),
        *([kept("another")], [kept("claude-bottle-other-00000")], [kept("claude-bottle-x", "x")]),
        [{"Name": f"claude-bottle-{SLUG}", "Labels": None}],
        [{"Name": 7, "Labels": {"io.claude-bottle.slug": SLUG}}],
    ],
    ids=repr,
)
def test_a_volume_that_is_not_ours_is_never_a_remain(volumes: object) -> None:
    with pytest.raises(BottleError, match="form that is not known"):
        remains([], volumes, frozenset())


def test_an_engine_that_does_not_answer_has_not_nothing_left() -> None:
    for expected in ([(CONTAINERS, refuses(0))], [(CONTAINERS, []), (VOLUMES, refuses(500))]):
        with fake_engine(*expected) as engine, pytest.raises(EngineError):
            observe_remains(engine, HOME, frozenset())


def test_containers_go_before_the_volumes_that_they_hold() -> None:
    found = [Remain("volume", "v", SLUG, ""), Remain("container", "a-1", SLUG, "")]
    with fake_engine(delete("a-1", b""), volume("v", b"")) as engine:
        remove_remains(engine, found)
    with fake_engine(delete("a-1", refuses(500))) as engine, pytest.raises(BottleError):
        remove_remains(engine, found)


def test_a_question_carries_no_more_than_it_must() -> None:
    with fake_engine((CONTAINERS, []), (VOLUMES, {"Volumes": []})) as engine:
        observe_remains(engine, HOME, frozenset())
    assert engine.questions[0].query == {"all": "1", "filters": {"label": [f"io.claude-bottle.home={HOME}"]}}
    assert all(asked.timeout == 10 and asked.body is None for asked in engine.questions)
