"""Files on their way into a bottle and out of it, as tar streams: the engine may be on another machine.

Invariant: what comes out is hostile: only regular files are taken, below the folder that they are meant for,
within limits of number, size and depth.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from claude_bottle.errors import BottleError

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Engine

_MAX_FILES, _MAX_BYTES, _MAX_DEPTH = 4000, 512 << 20, 12


class Tree(NamedTuple):
    """A host folder, or file, and its name in the stream. `public`: everybody may read it there."""

    source: Path
    name: str
    public: bool = False


def archive(files: Mapping[str, bytes]) -> bytes:
    """A stream of small files, readable by all but written by none but their owner."""
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = 0o644, len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def put(engine: Engine, container: str, target: str, trees: Iterable[Tree], owner: int) -> None:
    """Unpacks `trees` below a folder of a volume of the container's, as `owner`'s. Raises BottleError."""
    engine.send(f"/containers/{container}/archive", partial(pour, trees, owner), query={"path": target})


def pour(trees: Iterable[Tree], owner: int, write: Callable[[bytes], object]) -> None:
    """Raises OSError where a file cannot be read."""
    with tarfile.open(mode="w|", fileobj=cast("IO[bytes]", _Sink(write))) as tar:
        for tree in trees:
            tar.add(tree.source, tree.name, filter=partial(_plain, owner, tree.public))


class _Sink(NamedTuple):
    write: Callable[[bytes], object]


def _plain(owner: int, public: bool, entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nothing but files, folders and links."""
    if not (entry.isfile() or entry.isdir() or entry.issym() or entry.islnk()):
        return None
    entry.uid = entry.gid = owner
    entry.uname = entry.gname = ""
    entry.mode &= 0o777
    if public:
        entry.mode |= 0o555 if entry.isdir() else 0o444
    return entry


def take_out(stream: bytes, below: Path) -> int:
    """Unpacks what the engine made of a folder; its own name is dropped. Raises BottleError, OSError.

    Returns how many files were left out, as they were too long or too deep; too many count as one.
    """
    seen = total = left = 0
    try:
        with tarfile.open(mode="r:", fileobj=io.BytesIO(stream)) as tar:
            for entry in tar:
                seen += 1
                if seen > _MAX_FILES:  # of whatever kind: each takes its time and its place in memory
                    return left + 1
                if entry.size < 0:
                    raise tarfile.TarError("a file of less than nothing")
                if not entry.isreg():
                    continue
                path = _inner(entry.name)
                if path is None or total + entry.size > _MAX_BYTES:
                    left += 1
                    continue
                total += entry.size
                content = tar.extractfile(entry)
                assert content is not None
                _write(below / path, content.read())
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise BottleError(f"what came out of the bottle is no archive: {error}") from error
    return left


def _inner(name: str) -> PurePosixPath | None:
    """Without its first part; None for what does not lie plainly below it."""
    parts = PurePosixPath(name).parts
    inside = parts[1:]
    plain = all(part not in ("..", ".") and "\0" not in part for part in inside)
    if name.startswith("/") or not inside or not plain or len(inside) > _MAX_DEPTH:
        return None
    return PurePosixPath(*inside)


def _write(path: Path, content: bytes) -> None:
    """The folders are ours: nothing but this writes there. The old content stays until the new is whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        raise FileExistsError(errno.EEXIST, "there is a link", str(path))
    temporary = path.parent / f".new-{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(content)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
