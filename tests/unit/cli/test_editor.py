"""The operator's editor: whatever it does, what was written is not lost, and nothing is left about."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from claude_bottle.cli.editor import draft, edit_until, run_editor
from claude_bottle.cli.screen import Screen
from claude_bottle.errors import BottleError, UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def editor(script: str) -> dict[str, str]:
    """An editor that runs this, with the file as sys.argv[1]."""
    body = f"import pathlib, sys; file = pathlib.Path(sys.argv[1]); {script}"
    return {"EDITOR": f"{sys.executable} -I -S -c '{body}'"}


def test_what_was_written_is_read_and_then_nothing_is_left(folder: Path) -> None:
    with draft("x", "one\n") as made:
        assert Path(made.path).stat().st_mode & 0o777 == 0o600
        assert made.edit(editor('file.write_text(file.read_text() + "two\\n")')) == "one\ntwo\n"
    assert list(folder.iterdir()) == []


def test_an_editor_may_put_another_file_in_its_place() -> None:
    replace = 'other = file.with_suffix(".new"); other.write_text("new\\n"); other.replace(file)'
    with draft("x", "one\n") as made:
        assert made.edit(editor(replace)) == "new\n"


def test_visual_goes_before_editor() -> None:
    with draft("x", "one\n") as made:
        chosen = editor('file.write_text("visual")')["EDITOR"]
        assert made.edit({"VISUAL": chosen, "EDITOR": "false"}) == "visual"


def test_what_was_changed_for_nothing_is_kept_and_named(folder: Path) -> None:
    with pytest.raises(BottleError) as caught, draft("x", "one\n") as made:
        made.edit(editor('file.write_text("mine")'))
        raise BottleError("refused", "look again")
    (kept,) = folder.iterdir()
    assert kept.read_text() == "mine"
    assert caught.value.hint == f"look again\nwhat you wrote is kept in {kept}"


@pytest.mark.parametrize("failure", [BottleError("refused"), KeyboardInterrupt()])
def test_what_was_not_changed_is_not_kept(folder: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)) as caught, draft("x", "one\n"):
        raise failure
    assert list(folder.iterdir()) == []
    assert getattr(caught.value, "hint", None) is None


def test_an_editor_that_fails_changes_nothing(folder: Path) -> None:
    with pytest.raises(BottleError, match="ended with status 3") as caught, draft("x", "one\n") as made:
        made.edit(editor('file.write_text("mine"); sys.exit(3)'))
    (kept,) = folder.iterdir()
    assert str(kept) in str(caught.value.hint)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ('file.write_bytes(b"\\xff")', "not UTF-8"),
        ('file.write_bytes(b"x" * 2000000)', "longer than 1 MiB"),
        ("file.unlink()", "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_said(folder: Path, script: str, why: str) -> None:
    with pytest.raises(BottleError, match=why) as caught, draft("x", "one\n") as made:
        made.edit(editor(script))
    assert (caught.value.hint is not None) == any(folder.iterdir())


@pytest.mark.parametrize(
    ("chosen", "why"),
    [("/nonexistent/editor --wait", "cannot be started"), ("'unbalanced", "cannot be read as a command")],
)
def test_an_editor_that_is_none(folder: Path, chosen: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        run_editor({"EDITOR": chosen}, str(folder / "x"))
    assert "VISUAL or EDITOR" in str(caught.value.hint)


def number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BottleError(f"{text!r} is no number") from None


class Person(Screen):
    """An operator at a terminal; what they answer is given."""

    can_ask = True  # type: ignore[assignment]

    def __init__(self, *answers: bool) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self._answers = list(answers)

    def confirm(self, question: str, yes: bool) -> bool:
        return self._answers.pop(0)


SHORTEN = 'file.write_text(file.read_text().replace("x", "", 1))'  # each time a bit better


def test_what_is_not_taken_may_be_edited_again(folder: Path) -> None:
    with draft("x", "xx7") as made:
        assert edit_until(made, editor(SHORTEN), number, Person(True, True)) == 7
    assert list(folder.iterdir()) == []


def test_who_gives_up_has_changed_nothing_and_keeps_what_was_written(folder: Path) -> None:
    with (
        pytest.raises(BottleError, match="nothing was changed") as caught,
        draft("x", "xxx7") as made,
    ):
        edit_until(made, editor(SHORTEN), number, Person(True, False))
    (kept,) = folder.iterdir()
    assert kept.read_text() == "x7"
    assert str(kept) in str(caught.value.hint)


def test_where_nobody_can_be_asked_the_first_mistake_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(BottleError, match="is no number"), draft("x", "xx7") as made:
        edit_until(made, editor(SHORTEN), number, Screen(io.StringIO(), io.StringIO()))
