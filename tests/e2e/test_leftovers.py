"""What a killed command leaves in the state folder goes: what nobody uses at once, a bottle's state by name."""

from __future__ import annotations

import pytest

from tests.support.chaos import files_of
from tests.support.e2e import Cli

pytestmark = pytest.mark.needs("envoy", "claude")


@pytest.fixture
def ready(ready: Cli) -> Cli:
    ready("list").ok()
    return ready


def test_a_start_that_was_killed_before_it_had_a_name_for_its_bottle(ready: Cli) -> None:
    before = files_of(ready)
    slug = ready.start()  # so that the backend has a bottle
    ready("stop", slug).ok()
    begun = ready.state / f"{ready.agent}-00000"
    (begun / "home").mkdir(parents=True)
    ready("cleanup", "--yes").ok()
    assert begun.is_dir(), "it may have only just begun"
    gone = ready("cleanup", "--yes", "--purge", begun.name, "--purge", slug).ok()
    assert {(row[0], row[2]) for row in gone.rows} == {
        ("preserved state", begun.name),
        ("preserved state", slug),
    }
    assert files_of(ready) == before


def test_a_bottle_that_runs_is_not_purged_however_damaged_its_state_is(ready: Cli) -> None:
    slug = ready.start()
    metadata = ready.state / slug / "metadata.json"
    whole = metadata.read_text()
    metadata.write_text("{")
    ready("cleanup", "--yes", "--purge", slug).failed(2, f"{slug} is running")
    metadata.write_text(whole)
    ready.inside(slug, "true").ok()
    ready("stop", slug).ok()


def test_a_name_that_was_never_there_is_not_purged(ready: Cli) -> None:
    ready("cleanup", "--yes", "--purge", f"{ready.agent}-00000").failed(3, "there is no bottle")
    ready("cleanup", "--yes", "--purge", "../other").failed(3, "there is no bottle")


def test_the_lock_of_a_bottle_that_is_gone(ready: Cli) -> None:
    before = files_of(ready)
    ready.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = ready.state / f".{ready.agent}-00000.lock"
    lock.touch()
    shown = ready("cleanup", "--dry-run").ok().rows
    assert [row[:3] for row in shown] == [["lock", str(lock), f"{ready.agent}-00000"]]
    ready("cleanup", "--yes").ok()
    assert files_of(ready) == before


def test_a_folder_of_an_envoy_whose_keeper_and_start_were_killed(ready: Cli) -> None:
    before = files_of(ready)
    slug = ready.start()
    cradle = ready.state / ".cradle-0123456789abcdef"
    cradle.mkdir()
    (cradle / "envoy.json").write_text("{}")
    gone = ready("cleanup", "--yes").ok().rows
    assert [row[1] for row in gone] == [str(cradle)]
    ready.inside(slug, "true").ok()
    ready("stop", slug).ok()
    ready("cleanup", "--yes", "--purge", slug).ok()
    assert files_of(ready) == before
