"""A file of proposals that cannot be read, beside a real bottle: nobody takes it for one without proposals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from claude_bottle.state import audit
from tests.support.bottles import make_world
from tests.support.proposing import asking, proposal, wants

pytestmark = pytest.mark.needs("bubblewrap", "envoy", "claude")


@pytest.mark.parametrize("content", ["100,000", "10 MB", "deep", "binary"])
def test_a_file_of_proposals_that_is_far_too_much_is_no_proposal(tmp_path: Path, content: str) -> None:
    world = make_world(tmp_path, "bubblewrap")
    with asking(world, []) as found:
        one = {"id": "p-0000000000"}
        file = found.launched.paths.proposals
        texts = {
            "100,000": json.dumps([one] * 100_000).encode(),
            "10 MB": json.dumps(["x" * (10 << 20)]).encode(),
            "deep": b"[" * 100_000,
            "binary": bytes(range(256)) * 1000,
        }

        def approvals() -> object:
            said = found.cli("list", "--json")
            assert (said.status, "cannot be read" in said.talk) == (0, file.exists())
            (row,) = json.loads(said.out)["active"]
            return row["approvals"]

        file.unlink()
        assert approvals() == 0
        file.write_bytes(texts[content])
        assert approvals() is None  # nobody knows; the bottle itself does
        page = found.cli("proposals")
        assert (page.status, page.out) == (0, "")
        read = found.cli("logs", found.slug, "proposals")
        assert (read.status, read.out) == (1, "")
        assert "cannot be read" in read.talk
        found.launched.bottle.stop()
        resumed = found.cli("resume", found.slug, "--yes", "--detach")
        assert resumed.status == 0, resumed.talk
        assert "it goes on without them" in resumed.talk
        assert file.with_name("proposals.json.unreadable").read_bytes() == texts[content]
        assert found.cli("proposals").out == ""


def test_a_stop_that_cannot_read_them_says_so_and_keeps_them(tmp_path: Path) -> None:
    """What the bottle was denied is in the audit log all the same."""
    world = make_world(tmp_path, "bubblewrap")
    with asking(world, [proposal(1, wants("a.example.org"))]) as found:
        found.launched.paths.proposals.write_text("[")
        found.launched.bottle.exec(["curl", "-s", "https://denied.example.org/"])
        stopped = found.cli("stop", found.slug)
        assert stopped.status == 1
        assert "what it asked is not all in the audit log: the proposals in" in stopped.talk
        assert [line["kind"] for line in audit.read(world.home)] == ["start", "stop", "denials"]
        assert found.launched.paths.proposals.read_text() == "["
