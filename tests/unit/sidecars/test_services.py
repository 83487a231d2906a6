"""Which services are up, as a file says it. Who writes there may be anybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_bottle.sidecars.services import SERVICES, SUPERVISE, Record, services_down, services_up


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "services"))
    assert services_up(tmp_path / "services") == ()
    for up in (SERVICES, ("firewall",), ("egress",), (), SERVICES):
        record.write(up)
        assert services_up(tmp_path / "services") == up


def test_every_write_has_the_same_length(tmp_path: Path) -> None:
    record, sizes = Record(str(tmp_path / "services")), set()
    for up in (SERVICES, ("firewall",), ()):
        record.write(up)
        sizes.add((tmp_path / "services").stat().st_size)
    assert len(sizes) == 1


def test_what_should_be_up_and_is_not_is_known_by_name(tmp_path: Path) -> None:
    path = tmp_path / "services"
    assert services_down(path) == ()
    record = Record(str(path))
    for up, down in (
        (SERVICES, (SUPERVISE,)),
        ((*SERVICES, SUPERVISE), ()),
        (("firewall",), ("egress", SUPERVISE)),
    ):
        record.write(up, down)
        assert (services_up(path), services_down(path)) == (up, down)
    path.write_bytes(b"-other --egress - -")
    assert services_down(path) == ()


def test_without_a_record_nobody_knows(tmp_path: Path) -> None:
    assert services_up(tmp_path / "services") is None
    assert services_up(tmp_path / "no-folder" / "services") is None


def test_a_new_bundle_begins_a_record_of_its_own(tmp_path: Path) -> None:
    """Of a link that lies there, too: what it leads to is left alone."""
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "services").symlink_to(other)
    Record(str(tmp_path / "services")).write(SERVICES)
    assert other.read_text() == "mine"
    assert services_up(tmp_path / "services") == SERVICES


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x1b]0;x\x07", b"egresses firewalls", b"\n" * 9999])
def test_what_is_not_known_is_not_up(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "services").write_bytes(content)
    assert services_up(tmp_path / "services") == ()


def test_a_name_beyond_the_record_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "services").write_bytes(b" " * 1000 + b"egress")
    assert services_up(tmp_path / "services") == ()


def test_what_is_no_file_names_none(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("egress firewall")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        assert services_up(tmp_path / name) == (), name
