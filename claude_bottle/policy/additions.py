"""What an operator has added to a bottle's file system after its start: packages, and lines of a Dockerfile.

Invariant: of lines only RUN stands in it, without options and without here-documents, so that every line is
what it looks like to the operator, and no other image, mount or privilege comes in by one. What RUN does is
another matter: it is root's, while the image is built, with the engine's network; see `caveats`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from claude_bottle.policy.proposals_json import PACKAGE

MAX_LINES = 16_000  # characters in all
MAX_PACKAGES = 500
_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)(\s.*)?", re.DOTALL)


class Additions(NamedTuple):
    """`dockerfile` are lines that are carried out after everything that the manifest asks for."""

    packages: tuple[str, ...] = ()
    dockerfile: str = ""

    def __bool__(self) -> bool:
        return bool(self.packages or self.dockerfile)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(line for line in self.dockerfile.splitlines() if line.strip())

    def plus(self, more: Additions) -> Additions:
        """Both, without what is there already."""
        packages = tuple(dict.fromkeys(self.packages + more.packages))
        new = more.dockerfile.strip("\n")
        if not new or f"\n{new}\n" in f"\n{self.dockerfile}\n":
            return Additions(packages, self.dockerfile)
        return Additions(packages, f"{self.dockerfile}\n{new}".strip("\n"))

    def without(self, before: Additions) -> Additions:
        """What `plus` has added to `before`."""
        packages = tuple(name for name in self.packages if name not in before.packages)
        return Additions(packages, self.dockerfile.removeprefix(before.dockerfile).strip("\n"))

    def describe(self) -> str:
        """On one line; the caller sanitises it."""
        packages = [f"packages {' '.join(self.packages)}"] if self.packages else []
        return " and ".join([*packages, *(["; ".join(self.lines)] if self.dockerfile else [])]) or "nothing"


def check_additions(found: Additions) -> Additions:
    """Raises ValueError with one sentence."""
    for name in found.packages:
        if not PACKAGE.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a Debian package")
    if len(found.packages) > MAX_PACKAGES:
        raise ValueError(f"more than {MAX_PACKAGES} packages")
    if len(found.dockerfile) > MAX_LINES:
        raise ValueError(f"the Dockerfile's lines have more than {MAX_LINES} characters")
    if any(not (char.isprintable() or char in "\n\t") for char in found.dockerfile):
        raise ValueError("the Dockerfile's lines have a character that cannot be seen")
    if "<<" in found.dockerfile:
        raise ValueError("the Dockerfile's lines may hold no here-document (<<)")
    for line in _logical(found.dockerfile):
        match = _INSTRUCTION.fullmatch(line)
        if match is None or match[1].upper() != "RUN":
            raise ValueError(f"{line.strip()[:60]!r}: only RUN can be added to a bottle's image")
        if (match[2] or "").lstrip().startswith("--"):
            raise ValueError(f"{line.strip()[:60]!r}: RUN takes no options here")
        if not (match[2] or "").strip():
            raise ValueError("a RUN without a command")
    return found


def caveats(found: Additions) -> tuple[str, ...]:
    """What an approval of these opens, a line each."""
    notes = ["packages come from the image's own package archive, and their scripts run as root in the image"]
    if found.dockerfile:
        notes.append(
            "RUN is root's while the image is built, with the engine's network and not the bottle's: it may"
            " reach whatever the engine's host reaches"
        )
        notes.append("nothing of the workspace, and no credential, is there while the image is built")
    return tuple(notes if found.packages else notes[1:])


def additions_to_json(found: Additions) -> dict[str, object]:
    return {"packages": list(found.packages), "dockerfile": found.dockerfile}


def additions_from_json(obj: object) -> Additions:
    """Raises ValueError."""
    if not isinstance(obj, Mapping) or set(obj) != {"packages", "dockerfile"}:
        raise ValueError("not what was added to a bottle")
    packages, dockerfile = obj["packages"], obj["dockerfile"]
    if not isinstance(packages, list) or not all(type(name) is str for name in packages):
        raise ValueError("packages: not a list of texts")
    if type(dockerfile) is not str:
        raise ValueError("dockerfile: not a text")
    return check_additions(Additions(tuple(packages), dockerfile))


def _logical(text: str) -> list[str]:
    """Instructions with their continuations joined; comments and empty lines are none. Raises ValueError."""
    found: list[str] = []
    going_on = False
    for line in text.split("\n"):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue  # within a continuation, too, as the builder does it
        whole = bare.removesuffix("\\")
        if going_on:
            found[-1] += f" {whole}"
        else:
            found.append(whole)
        going_on = whole != bare
    if going_on:
        raise ValueError("the last of the Dockerfile's lines is not whole")
    return found
