"""Files on their way into a bottle, as a real `tar` and a real shell take them."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from claude_bottle.backend.docker.files import Tree, archive, pour
from claude_bottle.errors import BottleError

ENVIRONMENT = {"PATH": os.environ["PATH"], "ONLY": "what it was given"}
LARGE = 1 << 20  # more than a pipe holds


def shell(script: str, *arguments: object) -> list[str]:
    return ["sh", "-c", script, "sh", *map(str, arguments)]


def poured(folder: Path, trees: Iterable[Tree]) -> dict[str, tarfile.TarInfo]:
    """The entries as they reach the program, by their names."""
    stream = folder / "stream"
    pour(shell('cat > "$1"', stream), ENVIRONMENT, trees, "it fails")
    with tarfile.open(stream) as tar:
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
    pour(unpack, ENVIRONMENT, [Tree(source, "work"), Tree(alone, "one/file")], "it fails")
    assert (target / "work" / "inner" / "large").read_bytes() == (source / "inner" / "large").read_bytes()
    assert os.readlink(target / "work" / "link") == "inner/large"
    assert (target / "work" / "again").read_bytes() == b"content"
    modes = {name: (target / name).stat().st_mode & 0o7777 for name in ("work", "work/run", "one/file")}
    assert modes == {"work": 0o750, "work/run": 0o750, "one/file": 0o600}


def test_nobody_owns_what_is_poured_and_nothing_changes_identity(source: Path, tmp_path: Path) -> None:
    path = put(source, "program")
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    path.chmod(0o6755)
    source.chmod(0o3770)
    entries = poured(tmp_path, [Tree(source, "work")])
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries.values()} == {
        (0, 0, "", "")
    }
    assert {name: entry.mode for name, entry in entries.items()} == {"work": 0o770, "work/program": 0o755}


def test_what_is_public_can_be_read_by_all_and_written_by_no_more(source: Path, tmp_path: Path) -> None:
    put(source, "secret", 0o600)
    put(source, "program", 0o700)
    entries = poured(tmp_path, [Tree(source, "all", public=True), Tree(source, "own")])
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
        entries = poured(tmp_path, [Tree(source, "work")])
    assert entries.keys() == {"work", "work/file", "work/link"}
    assert entries["work/link"].issym()
    assert b"the operator's" not in (tmp_path / "stream").read_bytes()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("cat >/dev/null; echo first >&2; echo last; exit 3", "last", id="last-line"),
        pytest.param("echo no room >&2; exit 1", "no room", id="before-the-end"),
        pytest.param("cat >/dev/null; exit 3", "3", id="without-a-word"),
        pytest.param("cat >/dev/null; printf '\\033[2J\\n \\n' >&2; exit 3", "\\x1b[2J", id="escapes"),
        pytest.param('cat >/dev/null; echo "$ONLY" >&2; exit 3', "what it was given", id="environment"),
        pytest.param('cat >/dev/null; echo "${HOME-none}" >&2; exit 3', "none", id="no-more-environment"),
        pytest.param("kill -9 $$", "-9", id="killed"),
    ],
)
def test_a_program_that_fails_has_the_last_word(source: Path, script: str, said: str) -> None:
    put(source, "large", content=bytes(LARGE))
    with pytest.raises(BottleError) as caught:
        pour(shell(script), ENVIRONMENT, [Tree(source, "work")], "the files cannot be copied in")
    assert str(caught.value) == f"the files cannot be copied in: {said}"


def test_one_that_ends_well_without_having_read_all_has_not_unpacked_it(source: Path) -> None:
    put(source, "large", content=bytes(LARGE))
    with pytest.raises(BottleError):
        pour(["true"], ENVIRONMENT, [Tree(source, "work")], "the files cannot be copied in")


def test_what_cannot_be_read_ends_the_program(tmp_path: Path) -> None:
    """It would otherwise be waited for as long as it likes."""
    with pytest.raises(FileNotFoundError):
        pour(["sleep", "1000"], ENVIRONMENT, [Tree(tmp_path / "gone", "work")], "it fails")
