"""A home's identity is made once, whoever makes it, and never guessed."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest

from claude_bottle.errors import BottleError
from claude_bottle.state.identity import identity, make_identity
from claude_bottle.state.paths import Home, open_home


def test_it_is_made_once(tmp_path: Path) -> None:
    made = make_identity(tmp_path)
    assert (len(made), int(made, 16) >= 0) == (16, True)
    assert identity(tmp_path) == make_identity(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == ["identity"]


def test_every_home_has_its_own(tmp_path: Path) -> None:
    homes = [tmp_path / str(number) for number in range(20)]
    for home in homes:
        home.mkdir()
    assert len({make_identity(home) for home in homes}) == len(homes)


def test_of_several_processes_all_get_the_first(tmp_path: Path) -> None:
    with get_context("fork").Pool(4) as pool:
        assert len(set(pool.map(make_identity, [tmp_path] * 16))) == 1


def test_where_there_is_none_it_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(BottleError, match="is gone"):
        identity(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"0123", b"0123456789abcdeX\n", b"0" * 17, b"\xff" * 16, b"0" * 4096]
)
def test_a_damaged_one_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity").write_bytes(content)
    for ask in (identity, make_identity):
        with pytest.raises(BottleError, match="damaged"):
            ask(tmp_path)
    assert (tmp_path / "identity").read_bytes() == content


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BottleError, match=r"cannot make .*: No such file"):
        make_identity(tmp_path / "none")


def test_a_new_home_has_one_from_the_start_and_an_old_one_gets_no_other(tmp_path: Path) -> None:
    home = open_home(Home(tmp_path / "home"))
    made = identity(home.root)
    (home.state / "fixer-00000").mkdir()
    assert identity(open_home(home).root) == made
    (home.root / "identity").unlink()
    with pytest.raises(BottleError, match="is gone"):
        identity(open_home(home).root)
