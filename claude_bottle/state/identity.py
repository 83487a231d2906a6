"""What tells this home of claude-bottle from every other one, on whatever machine: a random word in a file.

An engine may serve several homes of several machines; each of them finds and removes only what bears its
own word. Invariant: once written it never changes, and one that cannot be read is an error, not another one.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from claude_bottle.errors import BottleError

if TYPE_CHECKING:
    from pathlib import Path

_NAME, _BYTES = "identity", 8
_HINT = "put it back, or work from another home: CLAUDE_BOTTLE_HOME"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def identity(root: Path) -> str:
    """Of the home at `root`. Raises BottleError where there is none."""
    path = root / _NAME
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            word = file.read(64).strip()
    except FileNotFoundError as error:
        fault = f"{path} is gone, which tells this home's containers from others'"
        raise BottleError(fault, _HINT) from error
    except OSError as error:
        raise BottleError(f"cannot read {path}: {error.strerror}") from error
    if len(word) != 2 * _BYTES or set(word) - set("0123456789abcdef"):
        raise BottleError(f"{path} is damaged, which tells this home's containers from others'", _HINT)
    return word


def make_identity(root: Path) -> str:
    """The one that is there, else a new one; of two processes that make one, both get the first."""
    path = root / _NAME
    if not path.exists():
        word = os.urandom(_BYTES).hex()
        temporary = path.with_name(f".{path.name}.{word}")
        try:
            with open(os.open(temporary, _NEW, 0o600), "w") as file:
                file.write(f"{word}\n")
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        except OSError as error:
            raise BottleError(f"cannot make {path}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
    return identity(root)
