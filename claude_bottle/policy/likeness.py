"""Which host names could be taken for others: look-alike letters, a few changed, a known name inside. Pure.

Invariant: nothing is refused by this; it only makes an operator look twice. A name is judged as a person
would see it, so punycode is judged by the letters that it stands for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from claude_bottle.policy.hosts import parse_ip

# Where anybody may own a name below: two neighbours there are strangers.
_SHARED = frozenset(
    (
        *("github.io", "gitlab.io", "pages.dev", "workers.dev", "vercel.app", "netlify.app", "herokuapp.com"),
        *("web.app", "firebaseapp.com", "blogspot.com", "azurewebsites.net", "cloudfront.net"),
        *("amazonaws.com", "s3.amazonaws.com", "ngrok.io", "ngrok-free.app"),
        *("co.uk", "org.uk", "com.au", "com.br", "co.jp", "co.in"),
    )
)
# What is worth being taken for, whether a bottle knows it or not. What it uses it knows by its rules.
FAMOUS = (
    *("github.com", "githubusercontent.com", "gitlab.com", "bitbucket.org", "python.org", "nodejs.org"),
    *("golang.org", "docker.com", "anthropic.com", "claude.ai", "claude.com", "google.com"),
    *("googleapis.com", "microsoft.com", "amazonaws.com", "cloudflare.com", "apple.com", "slack.com"),
)
_LOOKS_LIKE = {
    **dict(zip("аеорсухіјѕԁԛԝһӏкмтвнгпьзэ", "aeopcyxijsdqwhlkmtbhrnbee", strict=True)),  # Cyrillic
    **dict(zip("αορνικτυχωεγηβ", "aopviktuxweynb", strict=True)),  # Greek
    **dict(zip("ıɩɑɡɾʟ0135ł", "iiagrlolesl", strict=True)),
}
_PAIRS = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_SHORT = 5  # below it, names differ by a letter or two anyway


def readable(host: str) -> str:
    """With the letters that punycode stands for; the name itself where it has none, or it cannot be read."""
    return ".".join(_decoded(label) for label in host.split("."))


def scripts(host: str) -> tuple[str, ...]:
    """The alphabets of the letters in it, by Unicode's names."""
    letters = (char for char in readable(host) if char.isalpha())
    return tuple(dict.fromkeys(unicodedata.name(char, "UNKNOWN").split()[0] for char in letters))


def looks_like(host: str, known: Iterable[str]) -> str:
    """Why `host` may be taken for one of `known`, or nothing: not for itself, nor for what it is below."""
    bare = host.removeprefix("*.")
    if parse_ip(bare) is not None:
        return ""
    names = [name for name in dict.fromkeys(item.removeprefix("*.") for item in known) if "." in name]
    if any(bare == name or bare.endswith(f".{name}") for name in names):
        return ""
    return next((why for name in names if (why := _why(bare, name))), "")


def _why(host: str, name: str) -> str:
    if parse_ip(name) is not None:
        return ""
    if f".{name}." in f".{host}.":  # not at its end: that is below it
        return f"begins with or contains {name}, but ends in {'.'.join(host.split('.')[-2:])}"
    tail = ".".join(host.split(".")[-(name.count(".") + 1) :])
    if tail != name and skeleton(tail) == skeleton(name):
        return f"looks like {name}"
    if host.endswith(name) or name.replace(".", "-") in host:
        return f"contains {name} without being below it"
    parent, _, whole = name.partition(".")[2], 0, len(name.partition(".")[0])
    if whole < _SHORT or tail.count(".") != name.count("."):
        return ""
    neighbours = "." in parent and tail.endswith(f".{parent}") and parent not in _SHARED
    return f"differs from {name} in a letter or two" if not neighbours and _near(tail, name) else ""


def skeleton(name: str) -> str:
    """The same for names that look the same."""
    folded = unicodedata.normalize("NFKD", readable(name))
    plain = "".join(_LOOKS_LIKE.get(char, char) for char in folded if not unicodedata.combining(char))
    for pair, one in _PAIRS:
        plain = plain.replace(pair, one)
    return plain


def _decoded(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return label


def _near(one: str, other: str) -> bool:
    """At most two letters added, lost, changed or swapped with the next."""
    if abs(len(one) - len(other)) > 2 or one == other:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, char in enumerate(one, 1):
        two_before, before, row = before, row, [at]
        for column, letter in enumerate(other, 1):
            best = min(before[column] + 1, row[column - 1] + 1, before[column - 1] + (char != letter))
            if at > 1 and column > 1 and char == other[column - 2] and one[at - 2] == letter:
                best = min(best, two_before[column - 2] + 1)
            row.append(best)
    return row[-1] <= 2
