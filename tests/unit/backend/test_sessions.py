"""Session files out of a folder that an agent writes: whatever it puts there, only plain small files come out."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_bottle.backend.base import SessionFile
from claude_bottle.backend.sessions import FOLDER, from_archive, read_sessions

SECRET = b'{"status": "secret"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path.joinpath("home", *FOLDER)
    found.mkdir(parents=True)
    return found


def read(folder: Path) -> tuple[SessionFile, ...]:
    return read_sessions(str(folder.parent.parent), *FOLDER)


def put(folder: Path, name: str, content: bytes, written: float) -> None:
    (folder / name).write_bytes(content)
    os.utime(folder / name, (written, written))


def test_the_newest_comes_first(folder: Path) -> None:
    put(folder, "7.json", b"old", 1000)
    put(folder, "12.json", b"new", 3000)
    put(folder, "9.json", b"between", 2000)
    assert read(folder) == (
        SessionFile("12.json", b"new", 3000),
        SessionFile("9.json", b"between", 2000),
        SessionFile("7.json", b"old", 1000),
    )


@pytest.mark.parametrize(
    "name",
    [
        *("a.json", "-1.json", "1.key", "1.json.tmp", ".json", "1", "1.JSON", "99999999999.json"),
        *("\u0661.json", "1 .json", "1\n.json"),
    ],
)
def test_other_names_are_passed_over(folder: Path, name: str) -> None:
    put(folder, name, b"x", 1)
    assert read(folder) == ()


def test_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    (folder / "1.json").symlink_to(secret)
    assert read(folder) == ()


@pytest.mark.parametrize("part", [*range(len(FOLDER) + 1)])
def test_no_linked_folder_is_entered(folder: Path, tmp_path: Path, part: int) -> None:
    """Not even to one that holds the right names: it could be another bottle's, or the operator's own."""
    put(folder, "1.json", SECRET, 1)
    place = tmp_path.joinpath("home", *FOLDER[:part])
    elsewhere = place.rename(tmp_path / "elsewhere")
    place.symlink_to(elsewhere)
    assert read(folder) == ()


def test_what_is_no_plain_file_holds_nothing_up(folder: Path) -> None:
    os.mkfifo(folder / "1.json")
    (folder / "2.json").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "3.json"))
        put(folder, "4.json", b"plain", 1)
        assert [file.name for file in read(folder)] == ["4.json"]


def test_a_file_that_is_too_large_is_passed_over(folder: Path) -> None:
    put(folder, "1.json", b"x" * (16 << 10), 1)
    with open(folder / "2.json", "wb") as file:
        file.truncate(1 << 40)
    assert [file.name for file in read(folder)] == ["1.json"]


def test_no_more_than_a_few_come_out_of_many(folder: Path) -> None:
    for number in range(2000):
        (folder / f"{number}.json").touch()
    assert len(read(folder)) == 16


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert read_sessions(str(tmp_path / "nowhere"), *FOLDER) == ()
    assert read_sessions(str(tmp_path), *FOLDER) == ()


def archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer) as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, written: float = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.mtime, found.type, found.linkname = int(written), kind, link
    return found


def test_the_same_comes_out_of_an_archive() -> None:
    stream = archive(
        (entry("sessions/", kind=tarfile.DIRTYPE), b""),
        (entry("sessions/1.json", 10), b"old"),
        (entry("sessions/2.json", 20), b"new"),
        (entry("sessions/3.json", kind=tarfile.SYMTYPE, link="/etc/passwd"), b""),
        (entry("sessions/4.json", kind=tarfile.LNKTYPE, link="sessions/1.json"), b""),
        (entry("sessions/5.json", kind=tarfile.FIFOTYPE), b""),
        (entry("sessions/6.json", 30), b"x" * (16 << 10) + b"x"),
        (entry("sessions/1.0a.key", 30), SECRET),
    )
    assert from_archive(stream) == (SessionFile("2.json", b"new", 20), SessionFile("1.json", b"old", 10))


def test_a_link_in_place_of_the_folder_is_none() -> None:
    assert from_archive(archive((entry("sessions", kind=tarfile.SYMTYPE, link="/"), b""))) == ()


def test_no_more_than_a_few_come_out_of_a_large_archive() -> None:
    assert len(from_archive(archive(*((entry(f"s/{n}.json"), b"") for n in range(500))))) == 16


@given(st.binary(max_size=3000))
def test_what_is_no_archive_is_none(stream: bytes) -> None:
    assert from_archive(stream) == ()


WHOLE = archive((entry("sessions/1.json"), b"x" * 600), (entry("sessions/2.json"), b"y" * 600))


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4))
def test_a_damaged_archive_gives_nothing_or_less(place: int, damage: bytes) -> None:
    found = from_archive(WHOLE[:place] + damage + WHOLE[place + len(damage) :])
    assert len(found) <= 2
    assert all(len(file.content) <= 16 << 10 for file in found)


@given(st.integers(0, len(WHOLE)))
def test_a_cut_archive_gives_nothing_or_less(length: int) -> None:
    assert len(from_archive(WHOLE[:length])) <= 2
