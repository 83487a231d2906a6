"""The state folder as a store of bottles: atomic writes, one lock a bottle, nothing ever vanishes.

Invariant: a reader sees a whole file or none; a bottle whose metadata cannot be read is still listed, as
broken.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from claude_bottle.errors import BottleError, NotFoundError
from claude_bottle.state.metadata import BadMetadata, Metadata, parse, render
from claude_bottle.state.paths import BottlePaths, Home, is_slug, list_slugs, new_slug
from claude_bottle.state.trees import remove_trees

_ATTEMPTS = 20
_METADATA_BYTES = 1 << 20
_LEAST_BYTES, _LEAST_FILES = 1 << 20, 64  # about what the smallest bottle needs


class BusyError(BottleError):
    """Another process starts, stops or settles this bottle."""


class Broken(NamedTuple):
    """A state folder whose metadata cannot be read."""

    slug: str
    reason: str
    newer: bool = False  # a later version of claude-bottle wrote it

    def hint(self, home: Home) -> str:
        look = f"look at {home.bottle(self.slug).root}"
        return f"use the version that made it, or {look}" if self.newer else look


def write_atomically(path: Path, text: str) -> None:
    """The file has the old or the new content, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def create(home: Home, agent: str) -> str:
    """Reserves a slug by making its folder, which no two processes can."""
    for _ in range(_ATTEMPTS):
        slug = new_slug(agent)
        try:
            os.mkdir(home.bottle(slug).root, 0o700)
        except FileExistsError:
            continue
        return slug
    raise BottleError(f"no free name for agent {agent}", f"remove old state folders in {home.state}")


def save(home: Home, metadata: Metadata) -> None:
    with explained(home):
        write_atomically(home.bottle(metadata.slug).metadata, render(metadata))


def load(home: Home, slug: str) -> Metadata:
    """Raises NotFoundError with the nearest slug, or BottleError where the state is broken."""
    if not is_slug(slug) or not home.bottle(slug).root.is_dir():
        raise NotFoundError(f"there is no bottle {slug!r}", nearest_hint(slug, list_slugs(home)))
    found = read(home, slug)
    if isinstance(found, Broken):
        raise BottleError(f"the state of {slug} cannot be read: {found.reason}", found.hint(home))
    return found


def read(home: Home, slug: str) -> Metadata | Broken:
    try:
        metadata = parse(_own_text(home.bottle(slug).metadata))
    except FileNotFoundError:
        return Broken(slug, "no metadata.json")
    except (OSError, UnicodeDecodeError) as error:
        return Broken(slug, str(error))
    except BadMetadata as error:
        return Broken(slug, f"metadata.json: {error}", error.newer)
    return metadata if metadata.slug == slug else Broken(slug, "metadata.json names another bottle")


def _own_text(path: Path) -> str:
    """Of a plain file of this user's: nobody else says what a bottle is. Raises OSError, BadMetadata."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadMetadata("it is no plain file")
        if found.st_uid != os.geteuid():
            raise BadMetadata("it belongs to another user")
        if found.st_size > _METADATA_BYTES:
            raise BadMetadata("it is far too long")
        return file.read(_METADATA_BYTES).decode()


def read_all(home: Home) -> list[Metadata | Broken]:
    return [read(home, slug) for slug in list_slugs(home)]


def remove(paths: BottlePaths) -> None:
    """Removes a bottle's folder. The metadata goes last, so an interrupted removal is still listed.

    Raises BottleError or OSError where something is left.
    """
    if not paths.root.exists():
        return
    remove_trees(child for child in paths.root.iterdir() if child != paths.metadata)
    paths.metadata.unlink(missing_ok=True)
    paths.root.rmdir()


@contextlib.contextmanager
def locked(paths: BottlePaths) -> Iterator[None]:
    """One process at a time starts, stops or settles a bottle; the others wait. Not to be nested.

    The lock file goes with the state folder; who has waited for one that is gone takes the new one.
    """
    with _held(paths, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def locked_or_busy(paths: BottlePaths) -> Iterator[None]:
    """As `locked`, but nobody waits. Raises BusyError where another process has it."""
    try:
        with _held(paths, fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError as error:
        raise BusyError(f"{paths.root.name} is being started or stopped") from error


@contextlib.contextmanager
def _held(paths: BottlePaths, operation: int) -> Iterator[None]:
    path = paths.root.with_name(f".{paths.root.name}.lock")
    descriptor = take(path, operation)
    try:
        yield
    finally:
        if not paths.root.exists():
            path.unlink(missing_ok=True)
        os.close(descriptor)


def take(path: Path, operation: int) -> int:
    """Opens and locks the file of this name, made where there is none; to be closed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            os.close(descriptor)
            raise
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass  # removed while this process waited
        os.close(descriptor)


@contextlib.contextmanager
def explained(home: Home) -> Iterator[None]:
    """What fails on a full disk says so: a program tells what it could not do, a write tells no place."""
    try:
        yield
    except BottleError as error:
        if error.hint is None and _is_full(home.root):
            error.hint = f"No space left on device: the disk of {home.root} is full: make room and try again"
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None and _is_full(home.root):
            error.filename = str(home.root)
        raise


def _is_full(folder: Path) -> bool:
    """Also where there was a little room again by the time that this was asked. Where nobody knows: no."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    no_files = found.f_files > 0 and found.f_favail < _LEAST_FILES  # 0: a file system that does not count
    return no_files or found.f_bavail * found.f_frsize < _LEAST_BYTES


def nearest_hint(name: str, known: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else None
