"""Files on their way out of a bottle: they may be anything, and only plain files below one folder are taken."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from claude_bottle.backend.docker import files
from claude_bottle.backend.docker.files import take_out
from claude_bottle.errors import BottleError

ROOT = Path(__file__).parents[4]
END = b"\0" * 1024


def entry(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", size: bytes | None = None
) -> bytes:
    """One entry as it stands in a stream; `size` takes the place of the twelve bytes that tell its size."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    head = bytearray(info.tobuf(tarfile.PAX_FORMAT))
    if size is not None:
        head[124:136], head[148:156] = size, b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + b"\0" * (-len(content) % 512)


def extended(*records: bytes) -> bytes:
    """A header of the newer kind, for the entry after it; each record is `name=value`."""
    assert all(10 <= len(record) + 4 <= 99 for record in records)
    body = b"".join(b"%d %s\n" % (len(record) + 4, record) for record in records)
    return entry("projects/extended", body, tarfile.XHDTYPE)


def number(value: int) -> bytes:
    """A size that does not fit in octal digits, or is below nothing."""
    return (b"\x80" if value >= 0 else b"\xff") + (value % (1 << 88)).to_bytes(11, "big")


def taken(folder: Path) -> dict[str, bytes]:
    """Every file that lies there; nothing but files and folders may."""
    paths = list(folder.rglob("*"))
    assert all(path.is_dir() or path.is_file() for path in paths)
    assert not any(path.is_symlink() for path in paths)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture
def below(tmp_path: Path) -> Path:
    return tmp_path / "host" / "projects"


def test_files_are_taken_without_the_name_of_their_folder(below: Path) -> None:
    stream = entry("projects/", kind=tarfile.DIRTYPE) + entry("projects/-home/a.jsonl", b"one")
    take_out(stream + entry("projects/b", b"two", tarfile.CONTTYPE) + END, below)
    assert taken(below) == {"-home/a.jsonl": b"one", "b": b"two"}
    assert {oct(path.stat().st_mode & 0o7777) for path in below.rglob("*") if path.is_file()} == {"0o600"}


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "//etc/passwd", "/projects/x", "..", "../x", "projects/../x", "projects/../../x"),
        *("projects/a/../../../x", "projects/a/..", "x", "projects", "projects/", "", ".", "./x"),
        "projects/" + "d/" * 12 + "x",
    ],
)
def test_a_name_that_leads_elsewhere_is_left_out(below: Path, tmp_path: Path, name: str) -> None:
    take_out(
        entry("projects/before", b"1") + entry(name, b"evil") + entry("projects/after", b"2") + END, below
    )
    found = taken(tmp_path)
    assert {"host/projects/before", "host/projects/after"} <= found.keys()
    assert all(path.startswith("host/projects/") for path in found)
    assert name == "../x" or len(found) == 2  # the first part is dropped, whatever it is


def test_a_name_is_cut_at_no_zero_byte(below: Path) -> None:
    take_out(extended(b"path=projects/a\0b") + entry("projects/c", b"x") + END, below)
    assert not below.exists()


def test_twelve_folders_are_not_too_deep(below: Path) -> None:
    take_out(entry("projects/" + "d/" * 11 + "x", b"deep") + END, below)
    assert taken(below) == {"d/" * 11 + "x": b"deep"}


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"],
    ids=["symlink", "link", "characters", "blocks", "pipe", "unknown"],
)
def test_only_files_are_taken_and_no_link_is_followed(below: Path, tmp_path: Path, kind: bytes) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    odd = entry("projects/odd", kind=kind, link=str(outside))
    other = entry("projects/x", kind=kind, link=f"{outside}/precious")
    through = entry("projects/odd/precious", b"evil") + entry("projects/x", b"evil")
    take_out(odd + other + through + END, below)
    assert taken(below) == {"odd/precious": b"evil", "x": b"evil"}
    assert taken(outside) == {"precious": b"kept"}


def test_the_old_content_stays_until_the_new_is_whole(below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert take_out(entry("projects/a", b"old") + END, below) == 0

    def fails(source: object, target: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        take_out(entry("projects/a", b"new") + END, below)
    assert taken(below) == {"a": b"old"}


def test_a_link_that_lies_there_already_is_not_written_through(below: Path, tmp_path: Path) -> None:
    below.mkdir(parents=True)
    (below / "a").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        take_out(entry("projects/a", b"evil") + END, below)
    assert not (tmp_path / "precious").exists()


def test_a_file_and_a_folder_of_one_name_are_an_error(below: Path) -> None:
    for first, second in (("projects/a", "projects/a/b"), ("projects/c/d", "projects/c")):
        with pytest.raises(OSError):
            take_out(entry(first, b"1") + entry(second, b"2") + END, below)


def test_no_more_than_so_many_files_are_taken(below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_FILES", 3)
    left = take_out(b"".join(entry(f"projects/{name}", b"x") for name in range(9)) + END, below)
    assert left == 1
    assert taken(below).keys() == {"0", "1", "2"}


def test_folders_and_links_without_end_are_not_worked_through(
    below: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent makes a million of them in a moment; each takes its time and its place in memory here."""
    monkeypatch.setattr(files, "_MAX_FILES", 3)
    empty = b"".join(entry(f"projects/{name}", kind=tarfile.SYMTYPE, link="x") for name in range(500))
    assert take_out(empty + entry("projects/late", b"x") + END, below) == 1
    assert taken(below) == {}


def test_no_more_than_so_many_bytes_are_taken(below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_BYTES", 1000)
    assert take_out(b"".join(entry(f"projects/{name}", b"x" * 400) for name in range(9)) + END, below) == 7
    assert taken(below).keys() == {"0", "1"}


def test_holes_count_as_bytes(below: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file of a few bytes says that it is large."""
    monkeypatch.setattr(files, "_MAX_BYTES", 1 << 20)
    size = b"GNU.sparse.size=%d"
    sparse = extended(size % (1 << 30), b"GNU.sparse.map=0,1") + entry("projects/large", b"x")
    take_out(sparse + END, below)
    assert taken(below) == {}
    small = extended(size % 5000, b"GNU.sparse.map=4999,1") + entry("projects/small", b"x")
    take_out(small + END, below)
    assert taken(below) == {"small": b"\0" * 4999 + b"x"}


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no archive at all\n" * 100, id="text"),
        pytest.param(b"\x1f\x8b\x08\0" + bytes(600), id="compressed"),
        pytest.param(entry("projects/a", b"x" * 5000)[:2000], id="cut-off"),
        pytest.param(entry("projects/a", b"x", size=b"00000100000\0") + END, id="larger-than-the-stream"),
        pytest.param(entry("projects/a", b"x", size=b"what is this"), id="no-size"),
        pytest.param(extended(b"GNU.sparse.size=many") + entry("projects/a"), id="sparse-size"),
        pytest.param(extended(b"GNU.sparse.map=a,b") + entry("projects/a"), id="sparse-map"),
        pytest.param(entry("projects/a", b"9" * 5000 + b" a=b\n", tarfile.XHDTYPE), id="endless-number"),
        pytest.param(entry("projects/a", kind=b"Z", size=number(1 << 70)), id="beyond-any-file"),
    ],
)
def test_what_is_no_archive_is_said_to_be_none(below: Path, tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(BottleError, match="no archive"):
        take_out(stream, below)
    assert not any(content for content in taken(tmp_path).values())


TAKE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (3, 3))
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
from pathlib import Path
from claude_bottle.backend.docker.files import take_out
from claude_bottle.errors import BottleError
try:
    take_out(sys.stdin.buffer.read(), Path(sys.argv[1]))
except BottleError:
    print("refused")
"""


@pytest.mark.parametrize("size", [-512, -1 << 20])
def test_an_entry_that_leads_back_does_not_go_round_for_ever(below: Path, size: int) -> None:
    """Some versions of Python refuse it themselves, and others end there."""
    stream = entry("projects/a", b"x") + entry("projects/b", kind=b"Z", size=number(size)) + END
    argv = [sys.executable, "-c", TAKE, str(below)]
    done = subprocess.run(argv, input=stream, capture_output=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert taken(below).keys() <= {"a"}
