"""Reading small text files of which some were written by strangers.

Invariant: nothing is followed, waited for or read without bound where the owner of a folder is
not trusted. Files are opened relative to an open folder, so a folder that is swapped for a link
in between changes nothing. Every failure is an UnreadableError with one sentence.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

MAX_FILE = 1 << 20
MAX_FILES = 1000


class UnreadableError(Exception):
    """Why a file or a folder cannot be used."""


@contextmanager
def open_folder(path: str, parent: int | None = None, *, trusted: bool) -> Iterator[int | None]:
    """A descriptor of the folder, or None where there is nothing of that name."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if trusted else os.O_NOFOLLOW)
    try:
        folder = os.open(path, flags, dir_fd=parent)
    except FileNotFoundError:
        if is_link(path, parent):
            raise UnreadableError("is a symbolic link that leads nowhere") from None
        folder = None
    except OSError as error:
        raise UnreadableError(_why(error, path, parent, "folder")) from None
    try:
        yield folder
    finally:
        if folder is not None:
            os.close(folder)


def file_names(folder: int) -> list[str]:
    """What is in the folder, sorted, without hidden entries."""
    try:
        found = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise UnreadableError(f"cannot be listed: {error.strerror}") from None
    if len(found) > MAX_FILES:
        raise UnreadableError(f"holds more than {MAX_FILES} files")
    return sorted(found)


def read_text(name: str, folder: int, *, trusted: bool) -> str | None:
    """The text of a regular file in UTF-8, or None where there is nothing of that name."""
    # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if trusted else os.O_NOFOLLOW)
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if is_link(name, folder):
            raise UnreadableError("is a symbolic link that leads nowhere") from None
        return None
    except OSError as error:
        raise UnreadableError(_why(error, name, folder, "file")) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableError("is not a regular file")
        content = _read(descriptor)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE:
        raise UnreadableError("is larger than 1 MiB")
    try:
        return content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8 text (byte {error.start})") from None


def exists(name: str, folder: int) -> bool:
    """Whether there is anything of that name, a dead link included."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def is_link(name: str, folder: int | None) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _read(descriptor: int) -> bytes:
    """All of the file, but never much more than may be used."""
    content = b""
    while len(content) <= MAX_FILE and (part := os.read(descriptor, MAX_FILE + 1)):
        content += part
    return content


def _why(error: OSError, name: str, folder: int | None, kind: str) -> str:
    if is_link(name, folder) and not isinstance(error, PermissionError):
        return f"is a symbolic link where only a real {kind} is taken"
    return f"cannot be opened: {error.strerror}"
