"""For how long and how often: what the operator chose, as words for the command line. Pure.

Invariant: `Bounds` holds nothing that the command line would not take.
"""

from __future__ import annotations

from typing import NamedTuple

from claude_bottle.policy.durations import parse_duration, parse_uses

_MINUTES = "30m"


class Bounds(NamedTuple):
    options: tuple[str, ...]


class Choice(NamedTuple):
    """A key, what it stands for in the choice, and the flag; `asks` for what has to be written first."""

    key: str
    name: str
    flag: str
    asks: str = ""


CHOICES = (
    Choice("s", "until the bottle ends", "--session"),
    Choice("o", "once", "--once"),
    Choice("m", "for 30 minutes", "--for"),
    Choice("f", "for a time", "--for", "for how long? (30m, 2h, 1d)"),
    Choice("u", "a number of uses", "--uses", "how many uses?"),
    Choice("A", "always", "--always"),
)


class Chosen(NamedTuple):
    choice: Choice = CHOICES[0]
    value: str = ""  # what was written, and taken

    def bounds(self) -> Bounds:
        if self.choice.key == "m":
            return Bounds((self.choice.flag, _MINUTES))
        return Bounds((self.choice.flag, self.value) if self.choice.asks else (self.choice.flag,))

    def said(self) -> str:
        return named(self.choice, self)


def named(choice: Choice, chosen: Chosen) -> str:
    """As it stands in the choice: with what was written, once it was."""
    if not choice.asks or chosen.choice != choice:
        return choice.name
    if choice.key == "f":
        return f"for {chosen.value}"
    return "1 use" if int(chosen.value) == 1 else f"{int(chosen.value)} uses"


def choice_of(key: str) -> Choice | None:
    return next((choice for choice in CHOICES if choice.key == key), None)


def taken(choice: Choice, value: str) -> Chosen:
    """With what the operator wrote. Raises ValueError."""
    text = value.strip()
    if choice.key == "f":
        parse_duration(text)
    else:
        parse_uses(text)
    return Chosen(choice, text)
