"""The operator's way to a running bottle's sidecars, on every backend."""

from __future__ import annotations

import time
from typing import Any

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.operations.launch import Launched
from claude_bottle.policy.live import Bounds, LivePolicy, LiveRoute, live_from_json, live_to_json
from claude_bottle.policy.model import Route
from claude_bottle.policy.proposals import REJECTED, Answer
from claude_bottle.policy.proposals_json import answer_to_json
from claude_bottle.sidecars.egress.certs import CertAndKey, make_leaf
from tests.support.bottles import World, decisions, python_inside
from tests.support.processes import eventually

HOST = "added.example.org"
# Whether the sidecars end TLS for the host: this path needs nobody beyond them.
ASK = f"""
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("https://{HOST}/.claude-bottle/probe", timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error)
"""


def looked(launched: Launched) -> LivePolicy:
    said = launched.bottle.control({"op": "look"})
    assert said["ok"], said
    return live_from_json(said["live"])


def change(launched: Launched, decision: str, *routes: LiveRoute, **more: object) -> dict[str, Any]:
    before = looked(launched)
    authority = launched.bottle.control({"op": "authority"})
    leaf = make_leaf(CertAndKey(authority["cert"], authority["key"]), HOST)
    return launched.bottle.control(
        {
            "op": "change",
            "expect": before.version,
            "live": live_to_json(LivePolicy(routes, before.version + 1)),
            "leaves": {HOST: list(leaf)},
            "decision": decision,
            **more,
        }
    )


def status(launched: Launched) -> str:
    return python_inside(launched.bottle, ASK).text.strip()


def test_what_is_in_force_is_what_was_planned(shared: Launched) -> None:
    said = shared.bottle.control({"op": "look"})
    assert [item.grant for item in live_from_json(said["live"]).routes if item.grant] == []
    assert "api.anthropic.com" in [item.route.host for item in live_from_json(said["live"]).routes]
    assert said["proposals"] == []
    assert abs(said["in_force_at"] - time.time()) < 3600


def test_the_authority_is_the_bottles_own(shared: Launched) -> None:
    said = shared.bottle.control({"op": "authority"})
    trusted = (shared.paths.root / "authorities.pem").read_text()
    assert said["cert"].strip() in trusted
    assert "PRIVATE KEY" in said["key"]
    assert said["key"] not in trusted


def test_a_host_is_added_and_removed_while_the_bottle_runs(shared: Launched) -> None:
    before = looked(shared)
    assert "403" in status(shared)
    said = change(shared, "d-add", *before.routes, LiveRoute(Route(HOST), grant="d-add"))
    assert said == {"ok": True, "version": before.version + 1, "closed": 0}
    assert status(shared) == "204"
    assert shared.bottle.control({"op": "applied", "decision": "d-add"})["applied"] is True
    assert change(shared, "d-remove", *before.routes)["ok"]
    assert "403" in status(shared)
    changes = [line["decision"] for line in decisions(shared) if line.get("event") == "policy-changed"]
    assert changes[-2:] == ["d-add", "d-remove"]


def test_a_grant_runs_out_by_itself(shared: Launched) -> None:
    before = looked(shared)
    until = shared.bottle.control({"op": "look"})["in_force_at"] + 1.5
    assert change(shared, "d-soon", *before.routes, LiveRoute(Route(HOST), Bounds(until), "d-soon"))["ok"]
    assert eventually(lambda: looked(shared).routes == before.routes, 10)
    assert "403" in status(shared)


def test_of_two_editors_the_second_is_told(shared: Launched) -> None:
    before = looked(shared)
    assert change(shared, "d-first", *before.routes)["ok"]
    said = change(shared, "d-second", *before.routes, expect=before.version)
    assert (said["ok"], said["error"]) == (False, "conflict")
    assert shared.bottle.control({"op": "applied", "decision": "d-second"})["applied"] is False
    assert change(shared, "d-first", *before.routes)["error"] == "answered"


def test_a_bad_change_changes_nothing(shared: Launched) -> None:
    before = looked(shared)
    answer = answer_to_json(Answer(REJECTED, "d-bad", 5.0))
    for wrong, error in (
        ({"leaves": {HOST: ["no certificate"]}}, "invalid"),
        ({"live": {}}, "invalid"),
        ({"answers": [["p-0123456789", answer]]}, "unknown"),
        ({"more": 1}, "invalid"),
    ):
        said = change(shared, "d-bad", *before.routes, LiveRoute(Route(HOST), grant="d-bad"), **wrong)
        assert (said["ok"], said["error"]) == (False, error)
    assert looked(shared) == before
    assert "403" in status(shared)


def test_a_bottle_that_has_ended_does_not_answer(world: World) -> None:
    with world.bottle() as launched:
        launched.bottle.stop()
        with pytest.raises(BottleError):
            launched.bottle.control({"op": "look"})
