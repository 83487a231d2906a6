"""Whether the audit log is whole: every line, each after the one before it, up to the one that `head` names.

Invariant: what a killed writer leaves is a note; anything else that is not as it was written is a fault.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_bottle.state.audit import LOST, NOTHING, TORN, Tip, days, lines_of, locked, parse, read_head

if TYPE_CHECKING:
    from claude_bottle.state.paths import Home

MAX_FAULTS = 50


class Report(NamedTuple):
    """What `verify` has found. `notes` are what a crash may leave and no damage."""

    lines: int
    days: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def verify(home: Home) -> Report:
    """Reads all of it. Writers wait meanwhile."""
    with locked(home, fcntl.LOCK_SH) as folder:
        chain, names = _Chain(), days(home)
        for name in names:
            chain.day(name, folder / name, last=name == names[-1])
        chain.end(read_head(folder))
    return Report(chain.lines, len(names), tuple(chain.faults), tuple(chain.notes[:MAX_FAULTS]))


class _Chain:
    """Follows the chain. After a fault it goes on from what is there, so that one is not told as many."""

    def __init__(self) -> None:
        self.lines = 0
        self.faults: list[str] = []
        self.notes: list[str] = []
        self._seq = 0
        self._hash: str | None = NOTHING  # None: the line before cannot be read
        self._ends: list[Tip] = [Tip()]  # of the lines that one writer may have written last

    def day(self, name: str, path: Path, *, last: bool) -> None:
        for number, (raw, whole) in enumerate(lines_of(path), 1):
            where = f"{name}:{number}"
            if whole:
                self._line(where, parse(raw))
            elif last:
                self.notes.append(f"{where}: unfinished, by a writer that was killed")
            else:
                self._fault(f"{where}: unfinished, and not in the last file")

    def end(self, head: Tip | None) -> None:
        if head is None:
            if self.lines:
                self._fault("head: it is missing or damaged, which tells where the log ends")
        elif head.seq > self._seq:
            self._fault(f"head: the log goes to line {head.seq}, but ends with {self._seq}: its end was cut")
        elif head not in self._ends:
            self._fault(f"head: it does not name what line {head.seq} is now")

    def _line(self, where: str, line: Mapping[str, Any] | None) -> None:
        self.lines += 1
        if line is None:
            self._fault(f"{where}: changed, or no line of an audit log")
            self._seq, self._hash = self._seq + 1, None
            return
        if line["seq"] != self._seq + 1:
            self._fault(f"{where}: line {line['seq']} stands where {self._seq + 1} should")
        elif self._hash not in (None, line["prev"]):
            self._fault(f"{where}: does not follow on the line before it")
        if line.get("event") == LOST and line.get("kind") == "audit":
            self._fault(f"{where}: its writer found no head")
        if line.get("event") == TORN and line.get("kind") == "audit":
            self.notes.append(
                f"{where}: {line.get('bytes')} bytes of an unfinished line were cut off before it"
            )
        self._seq, self._hash = line["seq"], line["hash"]
        self._ends = [*self._ends[-3:], Tip(line["seq"], line["hash"])]

    def _fault(self, text: str) -> None:
        if len(self.faults) <= MAX_FAULTS:
            self.faults.append(text if len(self.faults) < MAX_FAULTS else "and more")
