"""Looking again and again shows what one look shows, on every backend; and a change at the next look."""

from __future__ import annotations

import pytest

from claude_bottle.operations.asking import Asking
from claude_bottle.operations.launch import Launched
from claude_bottle.operations.observed import Observer, observed
from claude_bottle.state.paths import Home
from tests.contract.test_look import SESSIONS, speaker
from tests.support.bottles import World, shell_inside
from tests.support.processes import eventually
from tests.support.proposing import asking, proposal, wants

SECONDS = 60.0


@pytest.fixture
def home(shared: Launched) -> Home:
    script = f"rm -rf {SESSIONS}; folder=/opt/claude-bottle/sessions; mkdir -p ~/.claude; [ -d $folder ] || exit 0;"
    script += f"find $folder -mindepth 1 -delete; ln -s $folder {SESSIONS}"
    assert shell_inside(shared.bottle, script).status == 0
    return Home(shared.paths.root.parent.parent)


def rows(observer: Observer, launched: Launched) -> list[dict[str, object]]:
    found, warnings = observer.look(launched.metadata.backend, SECONDS)
    assert warnings == []
    return [{**row.as_dict(), "memory": None} for row in found]


def test_it_shows_what_one_look_shows(home: Home, shared: Launched) -> None:
    observer = Observer(home)
    for status in ("idle", "busy", "waiting"):
        with speaker(shared, status=status, waitingFor="dialog open", statusUpdatedAt=1795301883385):
            whole, _ = observed(home, SECONDS, [shared.metadata.backend])
            once = [{**row.as_dict(), "memory": None} for row in whole]
            assert once[0]["status"] in ("idle", "working", "waiting for input")
            assert [rows(observer, shared) for _ in range(3)] == [once] * 3


def test_a_change_is_seen_at_the_next_look(home: Home, shared: Launched) -> None:
    observer = Observer(home)
    assert rows(observer, shared)[0]["status"] == "idle"
    with speaker(shared, status="busy") as process:
        assert eventually(lambda: rows(observer, shared)[0]["status"] == "working")
        script = f"for file in {SESSIONS}/*.json; do sed -i s/busy/idle/ $file; done"
        assert shell_inside(shared.bottle, script).status == 0
        assert rows(observer, shared)[0]["status"] == "idle"
        process.kill()
        assert eventually(lambda: rows(observer, shared)[0]["status"] == "exited")
    with speaker(shared, status="busy"):
        assert eventually(lambda: rows(observer, shared)[0]["status"] == "working")
    assert shell_inside(shared.bottle, f"rm {SESSIONS}/*.json").status == 0
    assert eventually(lambda: rows(observer, shared)[0]["status"] == "idle")


def test_a_bottle_that_ends_is_gone_at_the_next_look(world: World) -> None:
    observer = Observer(world.home)
    with world.bottle() as launched:
        assert [row["slug"] for row in rows(observer, launched)] == [launched.metadata.slug]
        launched.bottle.stop()
        assert rows(observer, launched) == []


def test_proposals_are_listed_as_they_come_and_go(world: World) -> None:
    with asking(world, [proposal(at, wants(f"h{at}.example.org")) for at in range(2)]) as found:
        row = (found.slug, "tester", world.backend)
        keeper = Asking(world.context, SECONDS)
        assert [item.proposal.id for item in keeper.look([row]).items] == ["p-0000abcdef", "p-0001abcdef"]
        assert found.cli("proposals", "reject", "p-0000abcdef", "--reason", "no").status == 0
        assert eventually(lambda: [item.proposal.id for item in keeper.look([row]).items] == ["p-0001abcdef"])
        assert keeper.look([]).items == ()
        found.launched.bottle.stop()
        listing = keeper.look([row])
        assert listing.items == ()
        assert len(listing.warnings) == 1
