"""How claude is run in a bottle's held terminal: as asked for the first time, to be continued later.

What was asked for is kept in the state folder, since a later `attach` is another process, and knows only the
slug.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from claude_bottle.backend.base import CLAUDE
from claude_bottle.errors import BottleError
from claude_bottle.state.paths import BottlePaths
from claude_bottle.state.store import write_atomically

# `--continue` fails where there is nothing to continue, and what it continues grows: so one that failed and
# has left everything as it was has done no work, and only then another claude is begun.
_CONTINUE = """
seen() { ls -ln "$CLAUDE_CONFIG_DIR"/projects/*/*.jsonl 2>/dev/null; }
before=$(seen)
if [ -n "$before" ]; then
  "$@" --continue && exit
  status=$?
  [ "$(seen)" = "$before" ] || exit "$status"
fi
exec "$@"
"""


class Asked(NamedTuple):
    """Claude's arguments: those of every run, and those of the first alone, which may be a prompt.

    `notify` is the operator's command that tells of a proposal.
    """

    always: tuple[str, ...]
    first: tuple[str, ...] = ()
    begun: bool = False
    notify: tuple[str, ...] = ()


def remember(paths: BottlePaths, asked: Asked) -> None:
    paths.session.mkdir(mode=0o700, exist_ok=True)
    write_atomically(paths.session / "claude.json", json.dumps(asked._asdict()) + "\n")


def was_asked_for(paths: BottlePaths) -> bool:
    """Whether claude is to run in a terminal of this bottle."""
    return (paths.session / "claude.json").exists()


def recall(paths: BottlePaths) -> Asked:
    """Raises BottleError where nobody has asked for claude in this bottle."""
    try:
        found = json.loads((paths.session / "claude.json").read_bytes())
        notify = _words(found["notify"]) if "notify" in found else ()
        return Asked(_words(found["always"]), _words(found["first"]), found["begun"] is True, notify)
    except FileNotFoundError as error:
        raise BottleError(
            f"{paths.root.name} was not started for a terminal",
            f"claude-bottle exec {paths.root.name} -- ...",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BottleError(f"{paths.session / 'claude.json'} cannot be read: {error}") from error


def _words(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise ValueError("these are no arguments")
    return tuple(found)


def inner_command(asked: Asked) -> list[str]:
    """What runs inside, before any framing."""
    if not asked.begun:
        return [CLAUDE, *asked.always, *asked.first]
    return ["sh", "-c", _CONTINUE, "sh", CLAUDE, *asked.always]


def launch_mark(paths: BottlePaths) -> bytes:
    """Another one after each launch, which makes a certificate authority of its own; none without a state."""
    try:
        return hashlib.sha256((paths.root / "authorities.pem").read_bytes()).digest()
    except FileNotFoundError:
        return b""
