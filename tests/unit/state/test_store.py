"""The state folder: atomic, private, one at a time, and nothing ever vanishes."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path
from typing import Any

import pytest

from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.state import store
from claude_bottle.state.metadata import Metadata, render
from claude_bottle.state.paths import Home, is_slug, list_slugs, open_home
from claude_bottle.state.store import Broken

PROCESSES = multiprocessing.get_context("fork")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(Home(tmp_path / "home"))


def metadata(slug: str) -> Metadata:
    return Metadata(slug, "reviewer", "plain", "bubblewrap", 1.5, "clone", "/srv/project", "0" * 64)


def saved(home: Home, agent: str = "reviewer") -> Metadata:
    found = metadata(store.create(home, agent))
    store.save(home, found)
    return found


def test_what_is_saved_is_loaded(home: Home) -> None:
    first, second = saved(home), saved(home, "other")
    assert store.load(home, first.slug) == first
    assert store.read_all(home) == sorted([first, second], key=lambda item: item.slug)
    assert home.bottle(first.slug).metadata.stat().st_mode & 0o777 == 0o600
    assert home.bottle(first.slug).root.stat().st_mode & 0o777 == 0o700


def test_a_slug_is_the_agent_and_five_characters(home: Home) -> None:
    slug = store.create(home, "reviewer")
    assert re.fullmatch(r"reviewer-[0-9a-z]{5}", slug)
    assert is_slug(slug)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-00000",
        "a",
        "a-0000",
        "a-000000",
        "a-0000A",
        "../a-00000",
        "a/b-00000",
        "A-00000",
        "--00000",
        "a-00 00",
        "a\n-00000",
    ],
)
def test_what_is_no_slug_is_no_folder(home: Home, text: str) -> None:
    assert not is_slug(text)
    with pytest.raises(NotFoundError):
        store.load(home, text)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut-short"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="list"),
        pytest.param("{}", id="nothing-in-it"),
        pytest.param("\0" * 100, id="zeros"),
        pytest.param("[" * 100_000, id="nested"),
        pytest.param(
            render(metadata("reviewer-00000")).replace('"schema": 1', '"schema": 99'), id="from-the-future"
        ),
        pytest.param(
            render(metadata("reviewer-00000")).replace('"schema": 1', '"schema": "1"'), id="no-number"
        ),
        pytest.param(render(metadata("reviewer-00000")).replace('"agent"', '"agemt"'), id="unknown-key"),
        pytest.param('{"schema": 1, "created": 1.0, "slug": "reviewer-00000"}', id="keys-missing"),
        pytest.param(render(metadata("reviewer-00000")).replace('"plain"', "7"), id="wrong-type"),
        pytest.param(render(metadata("reviewer-00000")).replace("1.5", '"now"'), id="no-time"),
        pytest.param(render(metadata("other-00000")), id="of-another-bottle"),
        pytest.param(render(metadata("reviewer-00000")._replace(resources={"a": 1})), id="odd-resources"),  # type: ignore[dict-item]
    ],
)
def test_what_cannot_be_read_is_a_broken_row_and_hides_nobody(home: Home, content: str) -> None:
    fine = saved(home)
    root = home.bottle("reviewer-00000").root
    root.mkdir()
    (root / "metadata.json").write_text(content)
    rows = store.read_all(home)
    assert len(rows) == 2
    assert fine in rows
    (broken,) = (row for row in rows if isinstance(row, Broken))
    assert broken.slug == "reviewer-00000"
    assert broken.reason
    with pytest.raises(BottleError, match="cannot be read") as caught:
        store.load(home, "reviewer-00000")
    assert str(root) in str(caught.value.hint)


def test_the_future_is_named(home: Home) -> None:
    found = saved(home)
    path = home.bottle(found.slug).metadata
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    assert store.read(home, found.slug) == Broken(
        found.slug, "metadata.json: schema 2, but this version reads 1", newer=True
    )


def test_what_another_user_wrote_is_not_believed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    found, mine = saved(home), os.geteuid()
    monkeypatch.setattr(store.os, "geteuid", lambda: mine + 1)
    assert store.read(home, found.slug) == Broken(found.slug, "metadata.json: it belongs to another user")
    monkeypatch.undo()
    assert store.read(home, found.slug) == found


def test_metadata_without_end_is_not_read(home: Home) -> None:
    found = saved(home)
    os.truncate(home.bottle(found.slug).metadata, 1 << 40)
    assert store.read(home, found.slug) == Broken(found.slug, "metadata.json: it is far too long")


def test_nobody_waits_for_metadata_that_is_a_pipe(home: Home) -> None:
    found = saved(home)
    path = home.bottle(found.slug).metadata
    path.unlink()
    os.mkfifo(path)
    assert store.read(home, found.slug) == Broken(found.slug, "metadata.json: it is no plain file")


def test_unreadable_or_missing_metadata_is_a_broken_row(home: Home) -> None:
    for name, make in (
        ("a", Path.mkdir),
        ("b", lambda path: path.symlink_to(path)),
        ("c", lambda path: None),
    ):
        root = home.bottle(f"{name}-00000").root
        root.mkdir()
        make(root / "metadata.json")
    (home.bottle("d-00000").root).mkdir()
    (home.bottle("d-00000").metadata).write_bytes(b"\xff\xfe")
    assert [type(row) for row in store.read_all(home)] == [Broken] * 4


def test_an_unknown_slug_names_the_nearest(home: Home) -> None:
    found = saved(home)
    wrong = found.slug[:-1] + ("0" if found.slug[-1] != "0" else "1")
    with pytest.raises(NotFoundError) as caught:
        store.load(home, wrong)
    assert caught.value.hint == f"did you mean {found.slug}?"
    with pytest.raises(NotFoundError) as caught:
        store.load(home, "zzzzzzzzzzzzzzzzzzzzz-qqqqq")
    assert caught.value.hint is None


def test_other_things_in_the_folder_are_left_alone(home: Home) -> None:
    (home.state / ".reviewer-00000.lock").write_text("")
    (home.state / "notes").mkdir()
    assert list_slugs(home) == []


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = saved(home)
    path = home.bottle(found.slug).metadata
    before = path.read_text()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "rename"):
        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
            patched.setattr(os, call, fails)
            store.save(home, found._replace(agent="changed"))
        assert path.read_text() == before
        assert os.listdir(path.parent) == ["metadata.json"]


def _rewrite(root: str, slug: str, times: int) -> None:
    home = Home(Path(root))
    for number in range(times):
        store.save(home, metadata(slug)._replace(branch="x" * (number % 2 * 20_000)))


def test_a_reader_sees_a_whole_file_whoever_writes(home: Home) -> None:
    slug = saved(home).slug
    writers = [PROCESSES.Process(target=_rewrite, args=(str(home.root), slug, 60)) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        found = store.read(home, slug)
        assert isinstance(found, Metadata), found
        seen.add(len(found.branch))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen <= {0, 20_000}


def _create(root: str, count: int, results: Any) -> None:
    results.put([store.create(Home(Path(root)), "a") for _ in range(count)])


def test_many_at_once_never_get_the_same_slug(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few names to choose from, so that they do meet."""
    monkeypatch.setattr(store, "new_slug", lambda agent: f"{agent}-000{os.urandom(1).hex()}")
    monkeypatch.setattr(store, "_ATTEMPTS", 10_000)
    results = PROCESSES.Queue()
    makers = [PROCESSES.Process(target=_create, args=(str(home.root), 50, results)) for _ in range(4)]
    for maker in makers:
        maker.start()
    slugs = [slug for _ in makers for slug in results.get(timeout=30)]
    for maker in makers:
        maker.join()
    assert len(slugs) == len(set(slugs)) == 200
    assert sorted(slugs) == list_slugs(home)


def test_when_no_name_is_free_it_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "new_slug", lambda agent: f"{agent}-00000")
    store.create(home, "a")
    with pytest.raises(BottleError, match="no free name"):
        store.create(home, "a")


def _hold(root: str, slug: str, entered: Any, leave: Any) -> None:
    with store.locked(Home(Path(root)).bottle(slug)):
        entered.set()
        leave.wait(60)


def test_one_process_at_a_time_works_on_a_bottle(home: Home) -> None:
    slug = saved(home).slug
    events = [(PROCESSES.Event(), PROCESSES.Event()) for _ in range(2)]
    holders = [PROCESSES.Process(target=_hold, args=(str(home.root), slug, *pair)) for pair in events]
    (first_in, first_out), (second_in, second_out) = events
    holders[0].start()
    assert first_in.wait(30)
    holders[1].start()
    assert not second_in.wait(0.3)
    with store.locked(home.bottle(saved(home, "other").slug)):
        pass  # another bottle is not held up
    first_out.set()
    assert second_in.wait(30)
    second_out.set()
    for holder in holders:
        holder.join()


def test_a_lock_dies_with_its_process(home: Home) -> None:
    slug = saved(home).slug
    entered, leave = PROCESSES.Event(), PROCESSES.Event()
    holder = PROCESSES.Process(target=_hold, args=(str(home.root), slug, entered, leave))
    holder.start()
    assert entered.wait(30)
    holder.kill()
    holder.join()
    with store.locked(home.bottle(slug)):
        pass


def test_removing_leaves_nothing_and_can_be_done_twice(home: Home, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("still here")
    paths = home.bottle(saved(home).slug)
    (paths.home / "deep" / "deeper").mkdir(parents=True)
    (paths.home / "deep" / "file").write_text("x")
    (paths.home / "link").symlink_to(outside)
    (paths.root / "top").symlink_to(outside)
    store.remove(paths)
    assert not paths.root.exists()
    store.remove(paths)
    assert (outside / "precious").read_text() == "still here"


def test_an_interrupted_removal_is_still_listed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    found = saved(home)
    paths = home.bottle(found.slug)
    (paths.root / "home").mkdir()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store, "remove_trees", interrupted)
        store.remove(paths)
    assert store.read_all(home) == [found]


def test_a_tree_deeper_than_a_path_is_removed(home: Home) -> None:
    paths = home.bottle(saved(home).slug)
    paths.home.mkdir()
    make_deep(paths.home, 3000)
    store.remove(paths)
    assert not paths.root.exists()


def make_deep(folder: Path, depth: int) -> None:
    """Folders in folders, made as a bottle would: one step at a time."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        for _ in range(depth):
            os.mkdir("dd")
            os.chdir("dd")
    finally:
        os.fchdir(before)
        os.close(before)


def _remove_as_nobody(root: str, slug: str) -> None:
    os.setgid(65534)
    os.setuid(65534)
    store.remove(Home(Path(root)).bottle(slug))


@pytest.mark.needs("root")
def test_folders_that_forbid_their_own_removal_are_removed(home: Home, tmp_path: Path) -> None:
    """By a process that is bound by modes: root is not."""
    found = saved(home)
    paths = home.bottle(found.slug)
    for mode in (0o000, 0o400, 0o500, 0o100):
        folder = paths.home / oct(mode) / "inner"
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
        folder.chmod(mode)
        folder.parent.chmod(mode)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o005:
            pytest.skip(f"{folder} is closed to other users") if folder.parent == Path("/") else folder.chmod(
                0o755
            )
    for path in (home.root, *home.root.rglob("*")):
        os.lchown(path, 65534, 65534)
    remover = PROCESSES.Process(target=_remove_as_nobody, args=(str(home.root), found.slug))
    remover.start()
    remover.join()
    assert remover.exitcode == 0
    assert not paths.root.exists()
