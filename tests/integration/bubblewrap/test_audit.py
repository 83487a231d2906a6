"""What the log says of a bottle's life, and what is said of a log that was changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from claude_bottle.state import audit
from tests.support.bottles import make_world
from tests.support.proposing import ROOT, asking, proposal, wants

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")


def test_a_bottle_s_life_is_in_the_log(tmp_path: Path) -> None:
    world = make_world(tmp_path, "bubblewrap")
    with asking(world, [proposal(1, wants("a.example.org"))]) as found:
        assert found.fetch("https://denied.example.org/") != "200"
        assert found.cli("stop", found.slug).status == 0
        lines = {line["kind"]: line for line in audit.read(world.home)}
        assert list(lines) == ["start", "stop", "denials", "proposal", "undecided"]
        assert lines["proposal"]["asked"]["asked"]["route"]["host"] == "a.example.org"
        assert lines["start"]["slug"] == found.slug
        assert lines["denials"]["most"] == [["denied.example.org", "host-not-allowed", 1]]
        (waiting,) = lines["undecided"]["last"]
        assert (waiting["proposal"], waiting["state"]) == ("p-0001abcdef", "pending")
        assert found.cli("audit", "verify").status == 0


def test_damage_of_the_log_is_told_and_ends_with_1(tmp_path: Path) -> None:
    world = make_world(tmp_path, "bubblewrap")
    for _ in range(3):
        audit.append(world.home, "start", slug="a-12345", agent="a")
    (name,) = audit.days(world.home)
    path = world.home.root / "audit" / name
    path.write_bytes(path.read_bytes().replace(b'"slug":"a-12345"', b'"slug":"a-12346"', 1))
    argv = [sys.executable, "-m", "claude_bottle", "audit", "verify"]
    environment = {
        **world.context.environment,
        "CLAUDE_BOTTLE_HOME": str(world.home.root),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NOT WHOLE" in done.stderr
