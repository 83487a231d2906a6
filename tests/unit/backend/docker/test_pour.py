"""Files on their way into a bottle, as a real `tar` takes them, and an engine."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from claude_bottle.backend.docker import files
from claude_bottle.backend.docker.api import EngineError
from claude_bottle.backend.docker.files import Tree, archive, pour
from tests.support.fake_engine import fake_engine, refuses
from tests.unit.backend.docker.engines import answer, ping, scripted

LARGE = 1 << 20  # more than a pipe holds


def stream_of(trees: Iterable[Tree], owner: int = 0) -> bytes:
    found = bytearray()
    pour(trees, owner, found.extend)
    return bytes(found)


def poured(trees: Iterable[Tree], owner: int = 0) -> dict[str, tarfile.TarInfo]:
    """The entries by their names."""
    with tarfile.open(fileobj=io.BytesIO(stream_of(trees, owner))) as tar:
        return {entry.name: entry for entry in tar}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir(mode=0o750)
    folder.chmod(0o750)
    return folder


def put(folder: Path, name: str, mode: int = 0o644, content: bytes = b"content") -> Path:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_small_files_are_readable_by_all_and_nobodys_in_particular() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive({"a": b"1", "b/c": b"\0" * 3000, "d": b""}))) as tar:
        entries = tar.getmembers()
        contents = [file.read() for entry in entries if (file := tar.extractfile(entry))]
    assert [entry.name for entry in entries] == ["a", "b/c", "d"]
    assert contents == [b"1", b"\0" * 3000, b""]
    assert {(entry.mode, entry.uid, entry.gid, entry.type) for entry in entries} == {(0o644, 0, 0, b"0")}
    assert {(entry.uname, entry.gname) for entry in entries} == {("", "")}


def test_a_real_tar_unpacks_what_was_archived(tmp_path: Path) -> None:
    argv = ["tar", "-xf", "-", "-C", str(tmp_path)]
    subprocess.run(argv, input=archive({"long/" + "n" * 200: b"1"}), check=True)
    assert (tmp_path / "long" / ("n" * 200)).read_bytes() == b"1"


def test_trees_are_unpacked_under_their_names(source: Path, tmp_path: Path) -> None:
    put(source, "run", 0o750)
    (source / "inner").mkdir()
    put(source / "inner", "large", content=os.urandom(LARGE))
    (source / "link").symlink_to("inner/large")
    os.link(source / "run", source / "again")
    alone = put(tmp_path, "alone", 0o600)
    target = tmp_path / "target"
    target.mkdir()
    unpack = ["tar", "-xpf", "-", "-C", str(target), "--no-same-owner"]
    stream = stream_of([Tree(source, "work"), Tree(alone, "one/file")])
    subprocess.run(unpack, input=stream, check=True)
    assert (target / "work" / "inner" / "large").read_bytes() == (source / "inner" / "large").read_bytes()
    assert os.readlink(target / "work" / "link") == "inner/large"
    assert (target / "work" / "again").read_bytes() == b"content"
    modes = {name: (target / name).stat().st_mode & 0o7777 for name in ("work", "work/run", "one/file")}
    assert modes == {"work": 0o750, "work/run": 0o750, "one/file": 0o600}


@pytest.mark.parametrize("owner", [0, 1000])
def test_one_user_owns_what_is_poured_and_nothing_changes_identity(source: Path, owner: int) -> None:
    path = put(source, "program")
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    path.chmod(0o6755)
    source.chmod(0o3770)
    entries = poured([Tree(source, "work")], owner)
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries.values()} == {
        (owner, owner, "", "")
    }
    assert {name: entry.mode for name, entry in entries.items()} == {"work": 0o770, "work/program": 0o755}


def test_what_is_public_can_be_read_by_all_and_written_by_no_more(source: Path) -> None:
    put(source, "secret", 0o600)
    put(source, "program", 0o700)
    entries = poured([Tree(source, "all", public=True), Tree(source, "own")])
    modes = {name: entry.mode for name, entry in entries.items()}
    assert (modes["own"], modes["own/secret"], modes["own/program"]) == (0o750, 0o600, 0o700)
    assert (modes["all"], modes["all/secret"], modes["all/program"]) == (0o755, 0o644, 0o744)


def test_only_files_folders_and_links_are_poured(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe is not even opened: nobody writes into it, and it would be waited for."""
    outside = put(tmp_path, "outside", content=b"the operator's")
    os.mkfifo(source / "pipe")
    monkeypatch.chdir(source)  # the name of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        (source / "link").symlink_to(outside)
        put(source, "file")
        entries = poured([Tree(source, "work")])
        stream = stream_of([Tree(source, "work")])
    assert entries.keys() == {"work", "work/file", "work/link"}
    assert entries["work/link"].issym()
    assert b"the operator's" not in stream


# To an engine


def test_what_is_put_is_unpacked_below_the_folder_that_was_meant(source: Path) -> None:
    put(source, "large", content=bytes(LARGE))
    trees = [Tree(source, "."), Tree(source, "again")]
    with fake_engine((("SEND", "/containers/box/archive", {"path": "/home/node"}), b"")) as engine:
        files.put(engine, "box", "/home/node", trees, 1000)
    assert engine.questions[0].sent == stream_of(trees, 1000)


def test_a_large_file_goes_over_the_wire_as_it_is(source: Path) -> None:
    put(source, "large", content=os.urandom(LARGE))
    with scripted(ping(), answer()) as (engine, server):
        files.put(engine, "box", "/home/node", [Tree(source, ".")], 1000)
    assert server.asked[-1].body == stream_of([Tree(source, ".")], 1000)


def test_what_the_engine_refuses_is_told(source: Path) -> None:
    refusal = refuses(507, "no space left on device")
    with fake_engine((("SEND", "/containers/box/archive"), refusal)) as engine:
        with pytest.raises(EngineError, match="no space left"):
            files.put(engine, "box", "/home/node", [Tree(source, ".")], 1000)


@pytest.mark.parametrize("first", [True, False])
def test_what_cannot_be_read_is_never_taken_for_whole(source: Path, tmp_path: Path, first: bool) -> None:
    """The engine must not come to see an end of it."""
    put(source, "large", content=bytes(LARGE))
    trees = [Tree(tmp_path / "gone", "gone"), *([] if first else [Tree(source, ".")])][:: 1 if first else -1]
    with scripted(ping(), answer()) as (engine, server), pytest.raises(FileNotFoundError):
        files.put(engine, "box", "/home/node", trees, 1000)
    assert (len(server.asked), server.cut_off) == (1, 1)
