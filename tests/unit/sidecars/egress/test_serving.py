"""What Envoy is told again after it could not be told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from claude_bottle.policy.model import Policy, Route, Upstream
from claude_bottle.sidecars.egress.certs import CertAndKey
from claude_bottle.sidecars.egress.envoy import Ways, envoy_ways
from claude_bottle.sidecars.egress.envoy_start import CLUSTERS_FILE, LISTENERS_FILE
from claude_bottle.sidecars.egress.serving import Serving

FIRST = Policy((Route("a.example.org"),))
SECOND = Policy((*FIRST.routes, Route("b.example.org", upstream=Upstream("http", "127.0.0.1", 1))))


def ways(policy: Policy) -> Ways:
    return envoy_ways(policy, {route.host: CertAndKey("cert", "key") for route in policy.routes})


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    monkeypatch.chdir(tmp_path)
    made = Serving("authorities.pem", None, lambda: None)
    made.told = ways(FIRST)
    made.write()
    return made


def names(path: str) -> list[str]:
    found = json.loads(Path(path).read_text())["resources"]
    return [chain["name"] for item in found for chain in item.get("filter_chains", [item])]


def test_only_what_has_changed_is_written(serving: Serving) -> None:
    before = os.stat(CLUSTERS_FILE).st_ino
    serving.tell(ways(Policy((*FIRST.routes, Route("c.example.org")))))
    assert os.stat(CLUSTERS_FILE).st_ino == before
    assert names(LISTENERS_FILE) == ["a.example.org", "c.example.org"]
    serving.tell(ways(SECOND))
    assert names(CLUSTERS_FILE) == ["internet", "up-1"]


def test_what_could_not_be_written_is_written_with_the_next(serving: Serving) -> None:
    os.mkdir(f"{CLUSTERS_FILE}.new")  # in the way of the file that takes its place
    with pytest.raises(OSError):
        serving.tell(ways(SECOND))
    os.rmdir(f"{CLUSTERS_FILE}.new")
    serving.tell(ways(SECOND))
    assert names(CLUSTERS_FILE) == ["internet", "up-1"]
    assert names(LISTENERS_FILE) == ["a.example.org", "b.example.org"]
