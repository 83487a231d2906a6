"""Looking at all backends again and again: none hides, none waits for another, none is asked twice at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from claude_bottle.backend import known_backend_names
from claude_bottle.backend.base import ActiveAgent, BottleBackend, Look, SessionFile, Watching
from claude_bottle.errors import BackendMissingError, BottleError
from claude_bottle.operations.agents import Row
from claude_bottle.operations.observed import Observer, joined, observed
from claude_bottle.state.paths import Home

SLUG = "a-00000"


class Pretended:
    """A backend that runs these agents; `services` are as the real ones'."""

    services = ("egress",)

    def __init__(self, active: Callable[[], list[ActiveAgent]], look: Callable[[], Look] = Look) -> None:
        self._active, self._look = active, look
        self.watched = 0

    def watch(self, state: Path) -> Watching:
        self.watched += 1
        return Watching(self._active, self._looks)

    def _looks(self, slugs: Sequence[str]) -> Iterator[tuple[str, Look]]:
        for slug in slugs:
            yield slug, self._look()

    def logs_at_hand(self, paths: object) -> bool:
        return True


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "state" / SLUG).mkdir(parents=True)
    return Home(tmp_path)


def agent(slug: str = SLUG, started: float = 1.0) -> ActiveAgent:
    return ActiveAgent("bubblewrap", slug, "agent", started, ("egress", "firewall"))


def observer(home: Home, *backends: Pretended | Exception) -> Observer:
    names = dict(zip(("bubblewrap", "docker"), backends, strict=False))

    def load(name: str) -> BottleBackend:
        found = names[name]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    return Observer(home, load, names)


def words(row: Row) -> tuple[object, object, object]:
    values = row.as_dict()
    return values["backend"], values["slug"], values["status"]


def raising(error: Exception) -> Callable[[], list[ActiveAgent]]:
    def active() -> list[ActiveAgent]:
        raise error

    return active


def test_all_backends_are_looked_at() -> None:
    assert Observer(Home(Path("/nowhere"))).backends == known_backend_names()


def test_without_any_state_no_backend_is_asked(tmp_path: Path) -> None:
    backend = Pretended(raising(BottleError("asked")))
    assert observer(Home(tmp_path), backend).look("bubblewrap") == ([], [])
    assert backend.watched == 0


def test_rows_come_in_the_order_of_their_start(home: Home) -> None:
    rows, warnings = observer(home, Pretended(lambda: [agent("b-00000", 2.0), agent()])).look("bubblewrap")
    assert [words(row) for row in rows] == [("bubblewrap", SLUG, "idle"), ("bubblewrap", "b-00000", "idle")]
    assert warnings == []


@pytest.mark.parametrize("error", [OSError("gone"), KeyError("Id"), BottleError("gone"), RecursionError()])
def test_a_broken_backend_is_a_row_with_a_warning_until_it_is_mended(home: Home, error: Exception) -> None:
    active = raising(error)
    backend = Pretended(lambda: active())
    looking = observer(home, backend)
    rows, warnings = looking.look("bubblewrap")
    assert [words(row) for row in rows] == [("bubblewrap", "-", "unknown")]
    assert len(warnings) == 1
    active = lambda: [agent()]  # noqa: E731
    assert [words(row) for row in looking.look("bubblewrap")[0]] == [("bubblewrap", SLUG, "idle")]
    assert backend.watched == 2  # nothing is kept of the one that failed


def test_a_backend_that_cannot_be_loaded_is_a_row_with_a_warning(home: Home) -> None:
    looking = observer(home, BackendMissingError("no library"), Pretended(list))
    rows, warnings = looking.look("bubblewrap")
    assert [words(row) for row in rows] == [("bubblewrap", "-", "unknown")]
    assert warnings == ["bubblewrap -: no library"]
    assert looking.look("docker") == ([], [])


def test_a_state_that_cannot_be_read_is_a_warning(home: Home) -> None:
    (home.state / SLUG).rmdir()
    home.state.rmdir()
    home.state.write_text("no folder")
    _, warnings = observer(home, Pretended(list)).look("bubblewrap")
    assert len(warnings) == 1


def test_agents_that_could_not_be_looked_into_are_unknown(home: Home) -> None:
    def look() -> Look:
        raise OSError("away")

    rows, warnings = observer(home, Pretended(lambda: [agent()], look)).look("bubblewrap")
    assert [words(row) for row in rows] == [("bubblewrap", SLUG, "unknown")]
    assert warnings == ["bubblewrap: OSError: away"]


def test_a_slow_backend_is_asked_once_and_its_answer_is_taken_when_it_comes(home: Home) -> None:
    let, asked = threading.Event(), []

    def active() -> list[ActiveAgent]:
        asked.append(threading.current_thread().name)
        assert let.wait(60)
        return [agent()]

    looking = observer(home, Pretended(active), Pretended(list))
    for _ in range(3):
        rows, warnings = looking.look("bubblewrap", 0.01)
        assert [words(row) for row in rows] == [("bubblewrap", "-", "unknown")]
        assert warnings == ["bubblewrap -: no answer within 0.01 s"]
        assert looking.look("docker") == ([], [])
    let.set()
    rows, warnings = looking.look("bubblewrap", 60)
    assert [words(row) for row in rows] == [("bubblewrap", SLUG, "idle")]
    assert (warnings, len(asked)) == ([], 1)


def test_agents_stand_there_while_it_is_slow_to_look_into_them(home: Home) -> None:
    let = threading.Event()

    def look() -> Look:
        assert let.wait(60)
        return Look()

    looking = observer(home, Pretended(lambda: [agent()], look))
    while (seen := looking.look("bubblewrap", 0.05))[0][0].as_dict()["slug"] != SLUG:
        pass
    assert [words(row) for row in seen[0]] == [("bubblewrap", SLUG, "unknown")]
    assert seen[1] == ["bubblewrap: no answer within 0.05 s"]
    let.set()
    assert [words(row) for row in looking.look("bubblewrap", 60)[0]] == [("bubblewrap", SLUG, "idle")]


def test_what_changes_is_seen_in_the_next_look(home: Home) -> None:
    content = b'{"status": "busy"}'

    def look() -> Look:
        return Look(True, (SessionFile("7.json", content, 1.0),))

    looking = observer(home, Pretended(lambda: [agent()], look))
    assert [words(row)[2] for row in looking.look("bubblewrap")[0]] == ["working"]
    assert [words(row)[2] for row in looking.look("bubblewrap")[0]] == ["working"]
    content = b'{"status": "idle"}'
    assert [words(row)[2] for row in looking.look("bubblewrap")[0]] == ["idle"]


def test_listings_of_several_backends_become_one(home: Home) -> None:
    first = observer(home, Pretended(lambda: [agent("b-00000", 2.0), agent("d-00000", 4.0)])).look(
        "bubblewrap"
    )
    second = observer(home, Pretended(lambda: [agent("c-00000", 3.0)])).look("bubblewrap")
    rows, warnings = joined([first, second, ([], ["docker: away"])])
    assert [row.as_dict()["slug"] for row in rows] == ["b-00000", "c-00000", "d-00000"]
    assert warnings == ["docker: away"]


def test_only_the_backends_that_are_asked_for_are_asked(home: Home) -> None:
    assert observed(home, backends=()) == ([], [])
    rows, _ = observed(home, backends=("bubblewrap",))
    assert rows == []
