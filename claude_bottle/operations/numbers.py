"""What an agent has spent and what it has changed: tokens, and lines added and removed.

Tokens are input, cache writes and output, as Claude Code's transcripts have them; what was read from a cache
is the same conversation once more with each message, and not counted. Lines are the workspace as it is now,
new files included, against the commit that it began with: what `diff` would show.

Invariant: all of it is asked by one program inside, so no file of an agent's is opened and no git is run
outside. Its answer is an agent's word: bounded in bytes and time, understood whole or not at all, and nothing
but numbers within bounds comes out of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from claude_bottle.backend.base import NODE_HOME
from claude_bottle.errors import BottleError

if TYPE_CHECKING:
    from claude_bottle.backend.base import Bottle
    from claude_bottle.operations.context import Context
    from claude_bottle.state.metadata import Metadata

SECONDS = 20.0  # for one look
GIT_SECONDS = 10.0  # for git's part of it
BYTES = 8 << 20  # of transcripts, at one look
_FILES = 1000
_LONGEST_NAME = 200
_HEADERS = 1 << 18  # bytes of all that is not transcript
_LINE = 1 << 20  # bytes; what is longer is nobody's message
_MESSAGES = 10_000  # of which it is remembered what they cost
_MOST = 10**9  # tokens of one message, or lines
_COUNTED = ("input_tokens", "cache_creation_input_tokens", "output_tokens")
_CHANGED = re.compile(rb"(\d{1,9}) (insertion|deletion)s?\([+-]\)")

# Both run inside. $1 is the commit. The lines are counted with a copy of the index, and without a lock that
# the agent's own git would meet.
_CHANGES = """
export GIT_OPTIONAL_LOCKS=0
index=$(git rev-parse --git-path claude-bottle.counted) || exit
rm -f "$index" "$index.lock"
cp "$(git rev-parse --git-path index)" "$index" || :
export GIT_INDEX_FILE="$index"
quiet='-c core.fsmonitor=false -c core.bigFileThreshold=2m -c core.hooksPath=/dev/null'
git $quiet add --intent-to-add --ignore-errors . || :
git $quiet diff --shortstat --no-ext-diff --no-textconv --no-renames --ignore-submodules \\
    "${1:-$(git hash-object -t tree /dev/null)}" -- && echo whole
rm -f "$index"
"""
# $1 is where the transcripts are, $2 how much of them may be read now; $3 is the script above, empty where
# there is no git, $4 its limit of time, $5 the commit. What was read already is the input: |NAME OFFSET|...|
_LOOK = r"""
export LC_ALL=C
known=$(cat)
if [ -n "$3" ]; then
    echo "changed $(timeout -k 1 "$4" sh -c "$3" sh "$5" 2>/dev/null </dev/null | head -c 300 | tr '\n' ' ')"
fi
cd "$1" 2>/dev/null || exit 0
left=$2
find . -maxdepth 6 -type f -name '*.jsonl' -printf '%s %p\n' 2>/dev/null | head -n 2000 | sort -k 2 |
while read -r size name; do
    case $name in *[!A-Za-z0-9._/-]*) continue ;; esac
    case $known in
        *"|$name "*) from=${known#*"|$name "} from=${from%%|*} ;;
        *) from=0 ;;
    esac
    [ "$size" -ge "$from" ] || from=0
    take=$((size - from))
    [ "$take" -gt 0 ] && [ -r "$name" ] || continue
    [ "$take" -le "$left" ] || { echo more; take=$left; }
    [ "$take" -gt 0 ] || break
    left=$((left - take))
    echo "read $from $take $name"
    tail -c "+$((from + 1))" "$name" | head -c "$take"
    echo
done
"""


class Numbers(NamedTuple):
    """None is what is not known: no git, nothing read yet, or it failed."""

    tokens: int | None = None
    added: int | None = None
    removed: int | None = None


class Part(NamedTuple):
    """What is new of one transcript."""

    name: str
    offset: int
    content: bytes


class Answer(NamedTuple):
    """`changed` are lines added and removed; `more` where not all that is new could be read at once."""

    changed: tuple[int, int] | None = None
    parts: tuple[Part, ...] = ()
    more: bool = False


def count(context: Context, slug: str) -> Numbers:
    """Of one running bottle, once. Raises BottleError."""
    from claude_bottle.operations import deciding

    bottle, metadata = deciding.running(context, slug)
    return Counter().look(bottle, metadata)


class Counter:
    """The tokens of one bottle, with what was read of each transcript, so that only what is new is read."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._costs: dict[str, int] = {}  # the last messages'
        self._total = 0
        self._whole = False  # whether all transcripts were read to their end once
        self.more = False  # whether another look would read more at once

    def look(self, bottle: Bottle, metadata: Metadata) -> Numbers:
        """Raises BottleError where the bottle does not answer, or not as it should."""
        known = "|".join(["", *(f"{name} {place.offset}" for name, place in self._places.items()), ""])
        folder = f"{NODE_HOME}/.claude/projects"
        changes = _CHANGES if metadata.branch else ""
        argv = ["sh", "-c", _LOOK, "sh", folder, str(BYTES), changes, str(GIT_SECONDS), metadata.base]
        done = bottle.exec(argv, stdin=known.encode(), timeout=SECONDS, limit=BYTES + _HEADERS)
        answer = understand(done.stdout)
        if done.status != 0 or answer is None:
            raise BottleError(f"{bottle.slug} does not say what its agent has done")
        for part in answer.parts:
            self._read(part)
        self.more = answer.more
        self._whole = self._whole or not answer.more
        known_all = self._whole and len(self._places) < _FILES
        return Numbers(self._total if known_all else None, *(answer.changed or (None, None)))

    def _read(self, part: Part) -> None:
        place = self._places.get(part.name) or _Place()
        if part.offset != place.offset:  # it is not what it was
            place = _Place()
        if part.offset != place.offset or (part.name not in self._places and len(self._places) == _FILES):
            return
        found, self._places[part.name] = place.taken(part.content)
        for line in found:
            self._add(*cost(line))

    def _add(self, message: str, tokens: int) -> None:
        """A message is several lines, one for each of its parts; the dearest tells what it has cost."""
        if message:
            before = self._costs.pop(message, 0)
            self._total += max(0, tokens - before)
            self._costs[message] = max(tokens, before)
            if len(self._costs) > _MESSAGES:
                del self._costs[next(iter(self._costs))]


class _Place(NamedTuple):
    """How far a transcript was read. `torn`: it stands within a line that is too long, and passed over."""

    offset: int = 0
    torn: bool = False

    def taken(self, content: bytes) -> tuple[list[bytes], _Place]:
        """The whole lines of what comes next, and where the rest begins."""
        end = content.rfind(b"\n") + 1
        if end == 0:
            return [], _Place(self.offset + len(content), True) if len(content) >= _LINE else self
        lines = content[:end].split(b"\n")
        return [line for line in lines[self.torn :] if len(line) <= _LINE], _Place(self.offset + end)


def cost(line: bytes) -> tuple[str, int]:
    """The message of a line of a transcript, and its tokens; empty for any other line."""
    if b'"usage"' not in line:
        return "", 0
    try:
        message = json.loads(line)["message"]
        ident, usage = message["id"], message["usage"]
        values = [usage.get(name) or 0 for name in _COUNTED]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", 0
    if not isinstance(ident, str) or len(ident) > _LONGEST_NAME or not _are_tokens(values):
        return "", 0
    return ident, sum(values)


def _are_tokens(values: Iterable[object]) -> bool:
    return all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST for value in values
    )


def understand(said: bytes) -> Answer | None:
    """None for what is no whole answer. Pure."""
    changed, parts, more = None, [], False
    while said:
        line, end, said = said.partition(b"\n")
        word, _, rest = line.partition(b" ")
        if word == b"changed":
            changed = _changed(rest)
        elif word == b"more":
            more = True
        elif word == b"read" and end:
            head = _head(rest)
            if head is None or said[head[1] : head[1] + 1] != b"\n":
                return None
            parts.append(Part(head[2], head[0], said[: head[1]]))
            said = said[head[1] + 1 :]
        else:
            return None
    return Answer(changed, tuple(parts), more)


def _head(words: bytes) -> tuple[int, int, str] | None:
    found = re.fullmatch(rb"(\d{1,15}) (\d{1,8}) ([A-Za-z0-9._/-]{1,%d})" % _LONGEST_NAME, words)
    return (int(found[1]), int(found[2]), found[3].decode()) if found else None


def _changed(said: bytes) -> tuple[int, int] | None:
    """git's words: ` 2 files changed, 3 insertions(+), 1 deletion(-)`, or none where nothing has changed."""
    if said.split()[-1:] != [b"whole"]:
        return None
    found = {kind: int(number) for number, kind in _CHANGED.findall(said)}
    return found.get(b"insertion", 0), found.get(b"deletion", 0)
