"""The operator's own editor on a text of ours.

Invariant: what an operator has written is not lost: unless it took effect, or nothing was changed in it, it
stays in its file, and the error says where that is.
"""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from claude_bottle.errors import BottleError, UsageError

if TYPE_CHECKING:
    from claude_bottle.cli.screen import Screen

T = TypeVar("T")
_LIMIT = 1 << 20


class Draft:
    """A private file with a text in it."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._given = text

    def edit(self, environment: Mapping[str, str]) -> str:
        """What the operator has made of it. Raises BottleError where the editor fails."""
        run_editor(environment, self.path)
        return self.read()

    def read(self) -> str:
        """Raises BottleError."""
        try:
            with open(self.path, "rb") as file:
                content = file.read(_LIMIT + 1)
            if len(content) > _LIMIT:
                raise BottleError("what was written is longer than 1 MiB")
            return content.decode()
        except OSError as error:
            raise BottleError(f"what was written cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise BottleError("what was written is not UTF-8 text") from None

    @property
    def changed(self) -> bool:
        """Whether there is anything in it that would be missed."""
        try:
            return self.read() != self._given
        except BottleError:
            return os.path.exists(self.path)


@contextmanager
def draft(name: str, text: str) -> Iterator[Draft]:
    """Removed at the end; kept, and named in the error, where it was changed for nothing."""
    descriptor, path = tempfile.mkstemp(prefix=f"claude-bottle-{name}-", suffix=".yaml")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    made = Draft(path, text)
    try:
        yield made
    except BottleError as error:
        if made.changed:
            kept = f"what you wrote is kept in {path}"
            error.hint = f"{error.hint}\n{kept}" if error.hint else kept
        else:
            _remove(path)
        raise
    except BaseException:
        if not made.changed:
            _remove(path)
        raise
    else:
        _remove(path)


def edit_until(made: Draft, environment: Mapping[str, str], read: Callable[[str], T], screen: Screen) -> T:
    """What `read` makes of it. Where it is not taken the operator, if there is one, may edit it again.

    Raises BottleError: of the editor; of `read` where nobody can be asked; that nothing was changed.
    """
    while True:
        text = made.edit(environment)
        try:
            return read(text)
        except BottleError as error:
            if not screen.can_ask:
                raise
            screen.error(error)
            if not screen.confirm("edit it again?", yes=False):
                raise BottleError("nothing was changed") from error


def run_editor(environment: Mapping[str, str], path: str) -> None:
    """$VISUAL, else $EDITOR, else vi, with its options, on this terminal. Raises BottleError."""
    import subprocess

    chosen = environment.get("VISUAL") or environment.get("EDITOR") or "vi"
    hint = "set VISUAL or EDITOR to the editor of your choice"
    try:
        words = shlex.split(chosen)
    except ValueError as error:
        raise UsageError(f"the editor {chosen!r} cannot be read as a command: {error}", hint) from None
    # Ctrl-C on the terminal is for the editor. A handler of ours is not inherited, as ignoring it would be.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        status = subprocess.run([*words, path], check=False).returncode
    except OSError as error:
        raise UsageError(f"the editor {chosen!r} cannot be started: {error.strerror}", hint) from error
    finally:
        signal.signal(signal.SIGINT, before)
    if status != 0:
        raise BottleError(f"the editor {chosen!r} ended with status {status}: nothing was changed")


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
