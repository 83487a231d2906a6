"""Where things are on disk. Pure but for `open_home`, which makes the folders (0700) and the home's identity.

Named tuples, since `list` is to be quick and dataclasses cost more to import than it does otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from claude_bottle.errors import BottleError
from claude_bottle.state.identity import make_identity

_SLUG_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_FOLDERS = ("bottles", "agents", "state", "archive", "queue", "audit")


class Home(NamedTuple):
    """The folder that holds everything of claude-bottle on this host."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    def archive(self, slug: str) -> Path:
        """What is kept of a bottle beyond its state: transcript, decisions, its sidecars' words."""
        return self.root / "archive" / slug

    def bottle(self, slug: str) -> BottlePaths:
        return BottlePaths(self.state / slug)


class BottlePaths(NamedTuple):
    """The state folder of one bottle.

    Only what `home`, `sessions`, `workspace` and `overlay` hold is seen inside.
    """

    root: Path

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.json"

    @property
    def marker(self) -> Path:
        """Why the state is preserved; see `marker`."""
        return self.root / "preserved.json"

    @property
    def picture(self) -> Path:
        """What the bottle was, in the words of the preflight; no secret."""
        return self.root / "picture.json"

    @property
    def additions(self) -> Path:
        """What was added to its file system since its first start; see `additions`."""
        return self.root / "additions.json"

    @property
    def rebuild(self) -> Path:
        """A rebuild that is under way; see `additions`."""
        return self.root / "rebuild.json"

    @property
    def run(self) -> Path:
        """Sockets, the lock and what the keeper needs; gone when the bottle is."""
        return self.root / "run"

    @property
    def session(self) -> Path:
        """Of the terminal that claude runs in: its socket, and how claude is run there."""
        return self.root / "session"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def sessions(self) -> Path:
        """Where Claude Code says what it does, if the bottle's home is not in this folder; shown inside."""
        return self.root / "sessions"

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def overlay(self) -> Path:
        return self.root / "overlay"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def decisions(self) -> Path:
        return self.logs / "decisions.jsonl"

    @property
    def proposals(self) -> Path:
        """What the agent has asked for, and the answers."""
        return self.logs / "proposals.json"

    @property
    def handover(self) -> Path:
        return self.root / "handover"


def home_from(environment: Mapping[str, str]) -> Home:
    """`$CLAUDE_BOTTLE_HOME`, else `~/.claude-bottle`."""
    chosen = environment.get("CLAUDE_BOTTLE_HOME")
    if chosen is not None and not os.path.isabs(chosen):
        raise BottleError("CLAUDE_BOTTLE_HOME is not an absolute path", "give the whole path, or unset it")
    return Home(Path(chosen) if chosen else Path.home() / ".claude-bottle")


def open_home(home: Home) -> Home:
    """Makes the folders where they are missing. Raises BottleError where they cannot be private."""
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_private(home.root)
        for name in _FOLDERS:
            (home.root / name).mkdir(mode=0o700, exist_ok=True)
        if not list_slugs(home):
            make_identity(home.root)
    except OSError as error:
        raise BottleError(
            f"cannot use {home.root}: {error.strerror}", "set CLAUDE_BOTTLE_HOME to another folder"
        ) from error
    return home


def _make_private(root: Path) -> None:
    found = root.stat()
    if found.st_uid != os.geteuid():
        raise BottleError(f"{root} belongs to another user", "set CLAUDE_BOTTLE_HOME to a folder of your own")
    if found.st_mode & 0o077:
        root.chmod(0o700)


def new_slug(agent: str) -> str:
    """`<agent>-<5 of [0-9a-z]>`"""
    number, letters = int.from_bytes(os.urandom(16)), ""  # `secrets` takes longer to load than all of this
    for _ in range(5):
        number, place = divmod(number, len(_SLUG_ALPHABET))
        letters += _SLUG_ALPHABET[place]
    return f"{agent}-{letters}"


def is_slug(text: str) -> bool:
    name, dash, tail = text.rpartition("-")
    plain = all(char in _SLUG_ALPHABET or char == "-" for char in name)
    return (
        bool(dash and name and plain and not name.startswith("-"))
        and len(tail) == 5
        and set(tail) <= set(_SLUG_ALPHABET)
    )


def list_slugs(home: Home) -> list[str]:
    """Every state folder, readable or not. Raises BottleError where the folder of them all cannot be read."""
    try:
        return sorted(name for name in os.listdir(home.state) if is_slug(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BottleError(f"cannot read {home.state}: {error.strerror}") from error
