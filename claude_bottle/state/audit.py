"""The audit log: what was decided and done, one JSON line each, a file a day, every line bound to the last.

Invariant: `append` returns only when its whole line is on the disk; so a line is written before what it
tells of takes effect. Each line has a number, the hash of the line before it, and its own; `head` names the
last one. So `audit_check` finds whatever was changed, cut, moved or taken out by anyone who does not make all
that follows anew: it proves order and wholeness, not who held the pen.

A writer that is killed leaves at most a torn last line, which the next one cuts off and tells of, or a whole
one that `head` does not name yet. A writer never mends what it does not understand: it goes on after the
farther of the two, and the gap stays to be found.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.state.store import explained, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from claude_bottle.state.paths import Home

MAX_TEXT = 2000
MAX_ITEMS = 200
MAX_DEPTH = 10
MAX_VALUE = 64 << 10  # bytes of one value of `data` as JSON
MAX_LINE = 512 << 10
_WINDOW = 2 * MAX_LINE  # what no writer leaves torn
NOTHING = "0" * 64  # the hash before the first line
FRAME = ("seq", "at", "kind", "slug", "agent", "who", "from", "prev", "hash")

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.jsonl")
_HEAD = re.compile(rb"(0|[1-9][0-9]{0,14}) ([0-9a-f]{64})\n")
_END = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_END_LENGTH = len(',"hash":""}') + 64
TORN, LOST = "torn", "head-lost"
_FLAGS = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Tip(NamedTuple):
    """The end of the chain."""

    seq: int = 0
    hash: str = NOTHING


def utc_now() -> datetime:
    return datetime.now(UTC)


def append(
    home: Home,
    kind: str,
    *,
    slug: str = "",
    agent: str = "",
    data: Mapping[str, object] | None = None,
    now: Callable[[], datetime] = utc_now,
) -> dict[str, Any]:
    """Writes one line and returns it; raises BottleError or OSError where it is not all on the disk.

    Text and lists of `data` are cut to bounds; its keys may not be those of the frame.
    """
    said = {"kind": kind, "slug": slug, "agent": agent, **_bounded_data(data or {})}
    with explained(home), locked(home, fcntl.LOCK_EX) as folder:
        return _append(folder, said, now)


def read(home: Home, since: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Every line from the day of `since` on, the oldest first; what is no line is of the kind "damaged"."""
    first = "" if since is None else f"{since.astimezone(UTC):%Y-%m-%d}"
    for name in days(home):
        if name >= first:
            for raw, whole in lines_of(home.root / "audit" / name):
                found = parse(raw)
                if found is not None:
                    yield found
                elif whole:  # a torn one was never said to be written
                    yield {"kind": "damaged", "slug": "", "agent": "", "at": "", "seq": None}


def days(home: Home) -> list[str]:
    """The names of the files, the oldest first."""
    try:
        return sorted(name for name in os.listdir(home.root / "audit") if _DAY.fullmatch(name))
    except FileNotFoundError:
        return []


def parse(raw: bytes) -> dict[str, Any] | None:
    """A line that is what it says; None for anything else."""
    end = _END.fullmatch(raw, max(0, len(raw) - _END_LENGTH))
    if end is None or hashlib.sha256(raw[: end.start()]).hexdigest() != end[1].decode():
        return None
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(found, dict) and type(found.get("seq")) is int and isinstance(found.get("prev"), str)
    return found if sound else None


def _append(folder: Path, said: Mapping[str, object], now: Callable[[], datetime]) -> dict[str, Any]:
    """The caller has the lock."""
    moment = now().astimezone(UTC)
    head, found = read_head(folder), sorted(name for name in os.listdir(folder) if _DAY.fullmatch(name))
    last, torn = _last_line(folder / found[-1]) if found else (None, 0)
    tip, notes = _go_on_after(head, last), _notes(head is None and bool(found), torn)
    if head != tip and not (head is None and found):
        _write_head(folder, tip)  # the first head of all, or one that a killed writer did not come to
    # A clock that was set back does not lead back into a day that is over.
    name = max([f"{moment:%Y-%m-%d}.jsonl", *found[-1:]])
    made: dict[str, Any] = {}
    lines = [b"\n"] if torn >= _WINDOW else []
    for each in (*notes, said):
        made, line = _framed(each, tip, moment)
        tip = Tip(made["seq"], made["hash"])
        lines.append(line)
    if 0 < torn < _WINDOW:
        _cut(folder / found[-1], torn)
    _write(folder / name, b"".join(lines), new=name not in found)
    _write_head(folder, tip)
    return made


def _notes(is_lost: bool, torn: int) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    if torn:
        found.append({"kind": "audit", "event": TORN, "bytes": torn})
    if is_lost:
        found.append({"kind": "audit", "event": LOST})
    return found


def _go_on_after(head: Tip | None, last: Tip | None) -> Tip:
    known = [tip for tip in (head, last) if tip is not None]
    return max(known, key=lambda tip: tip.seq, default=Tip())  # of two with one number, the head


def _framed(said: Mapping[str, object], tip: Tip, moment: datetime) -> tuple[dict[str, Any], bytes]:
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    frame = {"seq": tip.seq + 1, "at": stamp, "kind": "", "slug": "", "agent": "", **_hand()}
    line = {**frame, **said, "prev": tip.hash}
    body = json.dumps(line, separators=(",", ":"), allow_nan=False)[:-1].encode("ascii")
    if len(body) + _END_LENGTH > MAX_LINE:
        raise BottleError("too much for a line of the audit log", "decide on less at once")
    own = hashlib.sha256(body).hexdigest()
    return {**line, "hash": own}, body + f',"hash":"{own}"}}\n'.encode("ascii")


def _hand() -> dict[str, object]:
    """Who writes, and where from."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ""
    try:
        tty = os.ttyname(0)
    except OSError:
        tty = ""
    program = os.path.basename(sys.argv[0] if sys.argv else "")[:100].replace("__main__.py", "claude-bottle")
    command = [word for word in sys.argv[1:2] if re.fullmatch(r"[a-z-]{1,20}", word)]
    return {
        "who": {"uid": os.getuid(), "name": name},
        "from": {"tty": tty, "program": " ".join([program, *command]), "pid": os.getpid()},
    }


def _write_head(folder: Path, tip: Tip) -> None:
    write_atomically(folder / "head", f"{tip.seq} {tip.hash}\n")


def read_head(folder: Path) -> Tip | None:
    """None where there is none, or nothing that can be one."""
    try:
        with open(os.open(folder / "head", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            found = _HEAD.fullmatch(file.read(200))
    except FileNotFoundError:
        return None
    return Tip(int(found[1]), found[2].decode()) if found else None


def _last_line(path: Path) -> tuple[Tip | None, int]:
    """Of the last whole line, if it is sound; and how many bytes of a torn one follow."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _WINDOW))
        window = file.read(_WINDOW)
    whole = window[: window.rfind(b"\n") + 1]
    found = parse(whole[:-1].rpartition(b"\n")[2]) if whole else None
    return (None if found is None else Tip(found["seq"], found["hash"])), len(window) - len(whole)


def _cut(path: Path, torn: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - torn)
    finally:
        os.close(descriptor)


def _write(path: Path, lines: bytes, *, new: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _FLAGS, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, lines)
            if written != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # else it is a torn line, which the next writer cuts off
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if new:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(home: Home, operation: int) -> Iterator[Path]:
    folder = home.root / "audit"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | _FLAGS, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield folder
    finally:
        os.close(descriptor)


def lines_of(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Each without its end, and whether it has one; of one that is far too long the beginning."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while raw := file.readline(MAX_LINE):
            whole = rest = raw
            while not rest.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
                pass
            yield whole.rstrip(b"\n") if rest is whole else whole, rest.endswith(b"\n")


def _bounded_data(data: Mapping[str, object]) -> dict[str, object]:
    if taken := sorted(set(data) & set(FRAME)):
        raise ValueError(f"{taken[0]} belongs to the frame of a line")
    return {str(key)[:100]: _small(_bounded(value)) for key, value in list(data.items())[:MAX_ITEMS]}


def _small(value: object) -> object:
    text = json.dumps(value, separators=(",", ":"))
    if len(text) <= MAX_VALUE:
        return value
    return {"cut": text[:MAX_TEXT], "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _bounded(value: object, depth: int = 0) -> object:
    """Plain data within bounds; what is no plain data becomes text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < 1e15 else str(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {str(key)[:MAX_TEXT]: _bounded(item, depth + 1) for key, item in items}
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        more = [f"{len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else []
        return [*(_bounded(item, depth + 1) for item in value[:MAX_ITEMS]), *more]
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
