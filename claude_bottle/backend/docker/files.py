"""Files on their way into a bottle and out of it, as tar streams: the engine may be on another machine.

Invariant: what comes out is hostile: only regular files are taken, below the folder that they are meant for,
within limits of number, size and depth.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.text import shown

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


def pour(argv: Sequence[str], environment: Mapping[str, str], trees: Iterable[Tree], what: str) -> None:
    """Feeds `trees` to a program that unpacks them. Raises BottleError with its last words."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=words, stderr=words, env=dict(environment)
        )
        with process:
            assert process.stdin is not None
            try:
                with process.stdin, tarfile.open(mode="w|", fileobj=process.stdin) as tar:
                    for tree in trees:
                        tar.add(tree.source, tree.name, filter=_public if tree.public else _plain)
                whole = True
            except BrokenPipeError:
                whole = False  # it has ended, and says why
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            words.seek(0)
            lines = words.read().decode(errors="replace").strip().splitlines()
            raise BottleError(f"{what}: {shown(lines[-1]) if lines else process.returncode}")
        if not whole:
            raise BottleError(f"{what}: it ended before it had read all")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nobody's in particular, and nothing but files, folders and links."""
    if not (entry.isfile() or entry.isdir() or entry.issym() or entry.islnk()):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode &= 0o777
    return entry


def _public(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.mode |= 0o555 if entry.isdir() else 0o444
    return _plain(entry)


def take_out(stream: bytes, below: Path) -> None:
    """Unpacks what `docker cp` made of a folder; its own name is dropped. Raises BottleError, OSError."""
    files = total = 0
    try:
        with tarfile.open(mode="r:", fileobj=io.BytesIO(stream)) as tar:
            for entry in tar:
                path = _inner(entry.name)
                files, total = files + 1, total + (entry.size if entry.isreg() else 0)
                if files > _MAX_FILES or total > _MAX_BYTES:
                    return
                if entry.size < 0:
                    raise tarfile.TarError("a file of less than nothing")
                if not entry.isreg() or path is None:
                    continue
                content = tar.extractfile(entry)
                assert content is not None
                _write(below / path, content.read())
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise BottleError(f"what came out of the bottle is no archive: {error}") from error


def _inner(name: str) -> PurePosixPath | None:
    """Without its first part; None for what does not lie plainly below it."""
    parts = PurePosixPath(name).parts
    inside = parts[1:]
    plain = all(part not in ("..", ".") and "\0" not in part for part in inside)
    if name.startswith("/") or not inside or not plain or len(inside) > _MAX_DEPTH:
        return None
    return PurePosixPath(*inside)


def _write(path: Path, content: bytes) -> None:
    """The folders are ours: nothing but this writes there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
