"""What an engine elsewhere says of running bottles, and what this host's kernel says of those that run on it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.base import Look, SessionFile
from claude_bottle.backend.docker.look import identity_in, look, memory_group, memory_in
from claude_bottle.state.identity import make_identity
from claude_bottle.state.paths import Home, open_home
from tests.support.fake_engine import Expected, fake_engine, refuses

SLUG = "reviewer-00000"
OTHER = "reviewer-11111"
IDENTITY = "0123456789abcdef" * 4  # of no container of this host
LISTED = ("GET", "/containers/json")
CLAUDE = ["4711", "/opt/claude-bottle/bin/claude --continue"]
ANCHOR = ["4700", "/opt/claude-bottle/bin/anchor 9098 0"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = open_home(Home(tmp_path / "home"))
    make_identity(home.root)
    return home


def item(role: str, slug: str = SLUG, state: str = "running") -> dict[str, Any]:
    labels = {"io.claude-bottle.slug": slug, "io.claude-bottle.role": role}
    return {"Id": IDENTITY, "Labels": labels, "State": state, "Names": [f"/{role}-{slug}"]}


def asked(path: str, answer: Any, slug: str = SLUG) -> Expected:
    return (("GET", f"/containers/agent-{slug}/{path}"), answer)


def sessions(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"sessions/{name.removeprefix('n')}.json")
            entry.size, entry.mtime = len(content), 7
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def seen(home: Home, *expected: Expected, listed: list[object], slugs: tuple[str, ...] = (SLUG,)) -> Any:
    with fake_engine((LISTED, listed), *expected, any_order=True) as engine:
        return dict(look(engine, home, slugs))


STATS = {"memory_stats": {"usage": 5000, "stats": {"total_inactive_file": 1000}}}
BOTH: list[object] = [item("agent"), item("sidecars")]


def test_an_engine_elsewhere_is_asked(home: Home) -> None:
    found = seen(
        home,
        asked("archive", sessions(n12=b"{}")),
        asked("top", {"Processes": [ANCHOR, CLAUDE]}),
        asked("stats", STATS),
        listed=BOTH,
    )
    assert found == {SLUG: Look(True, (SessionFile("12.json", b"{}", 7),), None, 4000)}


def test_an_engine_that_shows_no_claude_code_says_that_none_lives(home: Home) -> None:
    top = asked("top", {"Processes": [ANCHOR]})
    found = seen(home, asked("archive", sessions(n12=b"{}")), top, asked("stats", STATS), listed=BOTH)
    assert found[SLUG].programs == ()


@pytest.mark.parametrize(
    "top", [refuses(500), {}, [], {"Processes": 7}, {"Processes": [[]]}, {"Processes": [7]}]
)
@pytest.mark.parametrize(
    "stats", [refuses(500), [], {}, {"memory_stats": {}}, {"memory_stats": {"usage": {}}}]
)
def test_what_the_engine_cannot_say_is_not_known(home: Home, top: Any, stats: Any) -> None:
    found = seen(home, asked("archive", refuses(404)), asked("top", top), asked("stats", stats), listed=BOTH)
    assert found == {SLUG: Look(True, (), None, None)}


def test_a_bottle_that_cannot_be_asked_hides_no_other(home: Home) -> None:
    found = seen(
        home,
        asked("archive", refuses(0, "too slow")),
        asked("archive", refuses(404), OTHER),
        asked("top", {"Processes": [ANCHOR]}, OTHER),
        asked("stats", STATS, OTHER),
        listed=[*BOTH, item("agent", OTHER), item("sidecars", OTHER)],
        slugs=(SLUG, OTHER),
    )
    assert found == {OTHER: Look(True, (), (), 4000)}


def test_a_bottle_whose_containers_are_only_made_yet_starts(home: Home) -> None:
    for listed in ([item("agent", state="created")], [item("agent"), item("sidecars", state="created")]):
        assert seen(home, listed=listed) == {SLUG: Look(ready=False)}


def test_what_was_not_asked_for_is_not_looked_at(home: Home) -> None:
    assert seen(home, listed=[item("agent", OTHER), item("sidecars", OTHER)]) == {}


def test_what_has_ended_is_left_out(home: Home) -> None:
    assert seen(home, listed=[item("agent", state="exited"), item("sidecars")]) == {}


def test_each_question_about_one_bottle_has_a_short_time_and_a_bound(home: Home) -> None:
    with fake_engine(
        (LISTED, BOTH),
        asked("archive", b"x" * (2 << 20)),
    ) as engine:
        assert dict(look(engine, home, (SLUG,))) == {}
    assert engine.questions[-1].timeout <= 2


@pytest.mark.parametrize(
    ("groups", "identity"),
    [
        (f"0::/docker/{IDENTITY}\n", IDENTITY),
        (f"0::/system.slice/docker-{IDENTITY}.scope\n", IDENTITY),
        (f"9:name=systemd:/docker/{IDENTITY}\n8:pids:/docker/{IDENTITY}\n", IDENTITY),
        (f"2:cpu,cpuacct:/\n1:name=systemd:/kubepods/pod1/{IDENTITY}\n", IDENTITY),
        ("0::/user.slice/user-1000.slice\n", None),
        (f"0::/docker/{IDENTITY[:-1]}\n", None),
        (f"0::/docker/{IDENTITY.upper()}\n", None),
        ("", None),
    ],
)
def test_a_container_is_known_by_its_control_group(groups: str, identity: str | None) -> None:
    assert identity_in(groups) == identity


@pytest.mark.parametrize(
    ("groups", "folder"),
    [
        ("0::/docker/a\n", "/sys/fs/cgroup/docker/a"),
        ("4:memory:/docker/a\n0::/x\n", "/sys/fs/cgroup/memory/docker/a"),
        ("0::/x\n4:cpu,memory:/docker/a\n", "/sys/fs/cgroup/memory/docker/a"),
        ("3:cpu:/docker/a\n", ""),
    ],
)
def test_memory_is_counted_by_one_group(groups: str, folder: str) -> None:
    assert memory_group(groups) == folder


NUMBERS = st.integers() | st.floats() | st.text(max_size=5) | st.none() | st.lists(st.none(), max_size=1)


@given(st.dictionaries(st.sampled_from(["usage", "stats"]), NUMBERS), NUMBERS)
def test_statistics_in_any_form_are_a_number_or_nothing(memory: dict[str, Any], idle: Any) -> None:
    for stats in ({"memory_stats": memory}, {"memory_stats": {**memory, "stats": {"inactive_file": idle}}}):
        found = memory_in(json.loads(json.dumps(stats)))
        assert found is None or (isinstance(found, int) and found >= 0)
